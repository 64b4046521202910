"""What waits at the hop's place while no policy of a container here names a host: in a tenth of its memory.

It knows no name, and says so at once. When a file of the agent's says that one is wanted, it becomes the hop on the same
sockets (`__main__.py`), which becomes this again a while after the file is gone. A question that comes meanwhile waits in its
socket.

It imports the standard library and little of that: each of these modules is there for as long as a cell runs.
"""

import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable

from dataplane.dns.hop import refusals

POLL, IDLE = 0.5, 10.0  # seconds
MOST_CONNECTIONS = 64
LENGTH = struct.Struct("!H")
PART = "dns-hop"  # last of the words of its command line, for those who look at processes
SCRIPT = "import sys; sys.path.append(sys.argv.pop(1)); from dataplane.dns.hop.doorway import main; main(sys.argv[1:])"
MODULE = "dataplane.dns.hop"


def doorway_command(root: str, words: list[str]) -> list[str]:
    """What to exec to wait; `root` is the folder that has our packages, `words` are those of `main`."""
    return [sys.executable, "-IS", "-c", SCRIPT, root, *words]


def service_command(words: list[str]) -> list[str]:
    """What to exec to ask the outside."""
    return [sys.executable, "-P", "-m", MODULE, *words]


def main(words: list[str]) -> None:
    """`words`: the descriptors of both sockets, the file that says that names are wanted, and what the hop itself is told."""
    datagrams, connections = (socket.socket(fileno=int(word)) for word in words[:2])
    Doorway(datagrams, connections, is_over=lambda: os.path.exists(words[2])).run()
    argv = service_command(words)
    os.execv(argv[0], argv)  # noqa: S606 -- no shell is what is wanted


class Doorway:
    """Answers until `is_over`; sockets that do not block. What has come by then and is not read stays where it is."""

    def __init__(self, datagrams: socket.socket, connections: socket.socket, *, is_over: Callable[[], bool]) -> None:
        self._datagrams, self._connections, self._is_over = datagrams, connections, is_over
        self._selector = selectors.DefaultSelector()
        self._open: dict[socket.socket, tuple[bytes, float]] = {}  # what is not answered yet, and the end of our patience

    def run(self) -> None:
        """Until it is over."""
        self._datagrams.setblocking(False)
        self._connections.setblocking(False)
        self._selector.register(self._datagrams, selectors.EVENT_READ, self._datagram)
        self._selector.register(self._connections, selectors.EVENT_READ, self._accept)
        while not self._is_over():
            for key, _ in self._selector.select(POLL):
                if self._is_over():
                    break
                try:
                    key.data(key.fileobj)
                except OSError:  # it has gone meanwhile, or takes no answer
                    for each in [each for each in self._open if each is key.fileobj]:
                        self._close(each)
            for each in [each for each, (_, end) in self._open.items() if time.monotonic() > end]:
                self._close(each)
        for each in list(self._open):
            self._close(each)
        self._selector.close()

    def _datagram(self, asked: socket.socket) -> None:
        wire, sender = asked.recvfrom(65535)
        if answer := refusals.refusal(wire, refusals.UNKNOWN):
            asked.sendto(answer, sender)

    def _accept(self, listening: socket.socket) -> None:
        made, _ = listening.accept()
        if len(self._open) >= MOST_CONNECTIONS:
            made.close()
            return
        made.setblocking(False)
        self._open[made] = b"", time.monotonic() + IDLE
        self._selector.register(made, selectors.EVENT_READ, self._read)

    def _read(self, connection: socket.socket) -> None:
        if found := connection.recv(65535):
            wire = self._open[connection][0] + found
            self._open[connection] = self._answered(connection, wire), time.monotonic() + IDLE
        else:
            self._close(connection)

    def _answered(self, connection: socket.socket, wire: bytes) -> bytes:
        """Answer each whole question in `wire`; what is left of it."""
        while len(wire) >= LENGTH.size and len(wire) >= LENGTH.size + (length := LENGTH.unpack_from(wire)[0]):
            answer = refusals.refusal(wire[LENGTH.size : LENGTH.size + length], refusals.UNKNOWN)
            connection.sendall(LENGTH.pack(len(answer)) + answer if answer else b"")
            wire = wire[LENGTH.size + length :]
        return wire

    def _close(self, connection: socket.socket) -> None:
        del self._open[connection]
        self._selector.unregister(connection)
        connection.close()
