"""A real Kubernetes cluster on this machine: control plane, the product installed in it, a node.

All of it runs in a network namespace of its own (network) and ends with the process that started it
(program).
"""
