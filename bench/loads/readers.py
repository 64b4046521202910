"""A user of group cellnet asks the agent for all policies, again and again, over as many connections as one user may have.

`python -m bench.loads.readers SOCKET CONNECTIONS GROUP` writes a line when all of them have asked. It becomes that user by
itself, as the user may have no way to this checkout and its interpreter.
"""

import contextlib
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.control.peer import group_id
from agent.control.server import GROUP
from agent.errors import HostRefused

CONNECTIONS = 63
READER = 65534
QUESTION = b"GET /v1/policies HTTP/1.1\r\nHost: cell\r\n\r\n"
END = b"]\n"  # of the answer


@contextlib.contextmanager
def asking(path: Path, *, connections: int = CONNECTIONS) -> Iterator[None]:
    """For as long as the block lasts. Raises HostRefused without the group."""
    group = group_id(GROUP)
    if group is None:
        raise HostRefused(f"there is no group {GROUP}", hint="sudo make setup")
    argv = [sys.executable, "-m", "bench.loads.readers", str(path), str(connections), str(group)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as readers:
        try:
            assert readers.stdout is not None
            if not readers.stdout.readline():
                raise HostRefused("the readers have ended", hint="see above")
            yield
        finally:
            readers.kill()


def ask(path: str, connections: int) -> None:
    """Without an end."""
    waiting = selectors.DefaultSelector()
    for _ in range(connections):
        made = socket.socket(socket.AF_UNIX)
        made.connect(path)
        made.sendall(QUESTION)
        waiting.register(made, selectors.EVENT_READ)
    print(flush=True)
    while True:
        for key, _ in waiting.select():
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            part = connection.recv(1 << 20)
            if not part:
                return
            if part.endswith(END):
                connection.sendall(QUESTION)


def become_reader(group: int) -> None:
    """From root."""
    os.setgroups([group])
    os.setresgid(READER, READER, READER)
    os.setresuid(READER, READER, READER)


if __name__ == "__main__":
    become_reader(int(sys.argv[3]))
    ask(sys.argv[1], int(sys.argv[2]))
