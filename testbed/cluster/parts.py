"""Parts of a cluster that is played with: taken away and given back from another shell.

Not here: which parts there are (__main__). Usage, in the cluster's network: python -m testbed.cluster.parts
kill haproxy. The socket is an abstract one, so that it is nobody's outside of that network (unix(7)).
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator, Mapping

from testbed.cluster.program import Program

ADDRESS = "\0coredump-guard-parts"
LONGEST = 256
VERBS = ("kill", "start")


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """Hold a socket on which wishes are heard in this network."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(ADDRESS)
        server.listen()
        yield server


def answer(server: socket.socket, parts: Mapping[str, Program], started: Callable[[], object]) -> None:
    """Wait for one wish, fulfil it, and say what became of it; `started` waits until a part is of use."""
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):  # whoever asked has gone
        connection.settimeout(5)
        words = connection.recv(LONGEST).decode(errors="replace").split()
        said, good = fulfilled(words, parts, started)
        connection.sendall(f"{'' if good else 'error: '}{said}".encode())


def fulfilled(
    words: list[str], parts: Mapping[str, Program], started: Callable[[], object]
) -> tuple[str, bool]:
    """Kill or start a part; return what to say, and whether it was done."""
    if len(words) != 2 or words[0] not in VERBS or words[1] not in parts:
        return f"{' | '.join(VERBS)} {' | '.join(parts)}", False
    verb, name = words
    part = parts[name]
    if verb == "kill":
        part.kill()
        return f"{name} is killed", True
    if part.alive():
        return f"{name} runs", True
    try:
        part.kill()  # it may have ended by itself
        part.start()
        started()
    except (RuntimeError, TimeoutError) as error:
        return str(error), False
    return f"{name} runs again", True


def ask(words: list[str]) -> str:
    """Return what becomes of a wish. Raises OSError if nobody hears it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(ADDRESS)
        connection.sendall(" ".join(words).encode()[:LONGEST] or b" ")
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


if __name__ == "__main__":
    became = ask(sys.argv[1:])
    print(became)
    sys.exit(became.startswith("error: "))
