"""The node side of coredump-guard: from a crash the kernel reports to a dump in the store."""

__version__ = "0.1.0"
