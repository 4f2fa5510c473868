"""What the tests share: the kernel's settings, containerd pods, programs that crash."""
