"""A node on this machine: real containerd pods, programs that crash, the kernel's core settings.

Tests, demo and benchmarks share it; what is installed on a node never imports it.
"""
