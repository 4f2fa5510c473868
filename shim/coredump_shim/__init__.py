"""The cluster side of coredump-guard: serves the store's dumps as a Kubernetes API."""
