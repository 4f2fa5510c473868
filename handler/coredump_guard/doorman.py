"""The doorman, what core_pattern starts: hands the dying process's core to the guard and exits.

Kept to what `python3 -I -S` has at hand, since a dying process waits for every import, and a thousand of
these may run at once. Where no guard answers, it captures by itself (alone), one doorman at a time.
"""

import _socket
import posix
import sys

ANSWER_SECONDS = 10
"""How long a guard that listens may take to answer; in a storm, a thousand doormen share the processors."""


def descriptors() -> int:
    """Free 0 to 2 for /dev/null and return where the core is now.

    The kernel opens nothing but 0, and 3 with %F: the first open() would become standard output.
    """
    null = posix.open("/dev/null", posix.O_RDWR)
    while null < 2:
        null = posix.open("/dev/null", posix.O_RDWR)
    core = posix.dup(0)
    posix.dup2(null, 0)
    return core


def hand_over(path: str, arguments: list[str], fds: list[int]) -> bool:
    """Offer the crash to the guard at path; True once the guard has taken it.

    An offer that is not answered in time is withdrawn: after the shutdown either the answer is there or the
    guard's attempt to give one fails, so that never two of us read one core.
    """
    seconds = ANSWER_SECONDS.to_bytes(8, sys.byteorder) + bytes(8)  # struct timeval
    message = b"\0".join([b"crash", *(text.encode(errors="surrogateescape") for text in arguments)])
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    guard = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    guard.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, seconds)
    guard.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, seconds)
    try:
        guard.connect(path)
        guard.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        return guard.recv(1) == b"t"
    except OSError:
        try:
            guard.shutdown(_socket.SHUT_RD)
            return guard.recv(1) == b"t"
        except OSError:
            return False


def capture_alone(arguments: list[str], fds: list[int]) -> None:
    """Capture with the guard's own code, found where this file really lies."""
    here = sys.argv[0]
    try:
        real = posix.readlink(here)
    except OSError:
        real = here
    import fcntl  # noqa: PLC0415 # only when there is no guard

    # Before anything large is imported: however many doormen wait here, only one of them is big.
    lock = posix.open(here.rpartition("/")[0] + "/alone.lock", posix.O_CREAT | posix.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    sys.path.insert(0, real.rpartition("/")[0].rpartition("/")[0])
    from coredump_guard import alone  # noqa: PLC0415 # only when there is no guard

    alone.capture(here.rpartition("/")[0], arguments, fds)


def main() -> None:
    """Entry point of core_pattern; the arguments are what pattern.SPECIFIERS became."""
    fds = [descriptors()]
    arguments = sys.argv[1:]
    if arguments[6] != "F":  # a pidfd, on kernels that give one
        fds.append(int(arguments[6][1:]))
    if not hand_over(sys.argv[0].rpartition("/")[0] + "/guard.sock", arguments, fds):
        capture_alone(arguments, fds)


if __name__ == "__main__":
    main()
