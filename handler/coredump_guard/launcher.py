"""Start a program as the kernel starts what core_pattern names: with its limits, and no environment.

handon runs it as a process of its own, since limits belong to processes. Arguments: the end of a pipe that is
told the error's number if the program cannot be started, the program, and its arguments.
"""

import os
import resource
import sys

DESCRIPTORS = (1024, 4096)
"""RLIMIT_NOFILE of all that the kernel starts: INR_OPEN_CUR and INR_OPEN_MAX, include/uapi/linux/fs.h."""


def main() -> None:
    """Become the program, or say why not."""
    report, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(report, False)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS[0], hard), min(DESCRIPTORS[1], hard)))
    try:
        os.execve(command[0], command, {})  # noqa: S606 # that is its whole purpose
    except OSError as error:
        os.write(report, str(error.errno).encode())
        os._exit(127)


if __name__ == "__main__":
    main()
