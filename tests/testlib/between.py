"""Containers on several cells, and calls between them that tell whether the very first packet got through."""

import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from agent.cli.errors import Refused as CliRefused
from agent.client.connection import attachment_address
from agent.errors import Unavailable
from host.namespace import run_in
from tests.testlib.attached import Attached
from tests.testlib.cell import CellUnderTest, eventually
from tests.testlib.instance import serving
from tests.testlib.netns import Netns
from tests.testlib.policed import is_alive, is_reset
from tests.testlib.standpoint import (
    PATIENCE,
    Connected,
    Outcome,
    Refused,
    Standpoint,
    Target,
    TimedOut,
    address_of,
    outcome_of,
    pair,
    udp_pair,
)

WEB, API, OTHER = "acme/shop/web", "acme/shop/api", "acme/shop/other"
TLS = 61443
LISTENING, TOTAL_RETRANSMISSIONS = "0A", 100  # a state in /proc/net/tcp; an offset in struct tcp_info
_numbers = count()


class Placed(Attached):
    """A namespace of the test's on a cell's overlay; with ports it answers on them, TCP and UDP, as `server=True` does."""

    def __init__(self, cell: CellUnderTest, app: str, *, name: str | None, ports: tuple[int, ...]) -> None:
        known = name or app.rpartition("/")[2]
        self.place = Netns(known[:8])
        body = {"app": app, "netns": str(self.place.path), "ports": ports}
        try:
            found = cell.client.ask("PUT", attachment_address(known), body).fields
        except BaseException:
            self.place.close()
            raise
        super().__init__(cell, found, path=self.place.path)
        self.log = cell.lab.root / f"placed-{next(_numbers)}.log"
        self._server: subprocess.Popen[bytes] | None = None
        if ports:
            with self.log.open("wb") as log:
                self._server = self.place.start(*serving(ports), stdout=log)
            eventually(lambda: _listens(self.pin, ports[-1]))

    def callers(self, port: int) -> list[str]:
        """Who has connected to a port so far: source addresses, in order."""
        words = [line.split() for line in self.log.read_text().splitlines()]
        return [word[1] for word in words if word[:1] == [str(port)]]

    def end(self) -> None:
        """Its processes end, and then it is taken off the cell; an agent that is not there sweeps it later."""
        self.end_server()
        self.close()
        with suppress(Unavailable, CliRefused):
            self.cell.client.delete(attachment_address(self.name))
        self.place.close()

    def end_server(self) -> None:
        """kill -9 of whoever answers."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None


def _listens(pin: Path, port: int) -> bool:
    lines = run_in(pin, lambda: Path("/proc/thread-self/net/tcp").read_text().splitlines())
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == LISTENING for line in lines[1:])


def at_once(client: Standpoint, target: Target, port: int, *, source_port: int = 0) -> Outcome:
    """As `connect`, decided by the first SYN: what only a repeated one has brought about counts as TimedOut."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.bind(("", source_port))
        return made

    with run_in(client.pin, make) as made:
        made.settimeout(PATIENCE)
        found = outcome_of(lambda: made.connect((address_of(target), port)))
        return TimedOut if repeated(made) else found


def repeated(connection: socket.socket) -> int:
    """How many segments TCP had to send again, SYNs among them."""
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack_from("=I", told, TOTAL_RETRANSMISSIONS)[0])


def one_datagram(client: Standpoint, target: Target, port: int, *, source_port: int = 0) -> Outcome:
    """What comes of a single datagram, sent once."""
    with client.datagrams(source_port) as sender:
        sender.connect((address_of(target), port))
        return outcome_of(lambda: (sender.send(b"?"), sender.recv(16)))


def reach(client: Standpoint, server: Target, ports: Iterable[int], *, over: str = "tcp") -> set[int]:
    """The ports that `client` reaches at once; all others refuse it at once."""
    found = {port: at_once(client, server, port) if over == "tcp" else client.udp(server, port) for port in ports}
    assert set(found.values()) <= {Connected, Refused}, found
    return {port for port, outcome in found.items() if outcome is Connected}


def policies(*rules: str) -> str:
    """A policy file: `from: acme/shop/web, to: acme/shop/api, tcp: 8080` for each."""
    return "policies:\n" + "".join(f"- {{{each}}}\n" for each in rules)


def web_to_api(*ports: str) -> str:
    """A policy file: `tcp: 8080` for each."""
    return policies(*(f"from: {WEB}, to: {API}, {each}" for each in ports))


class Flow:
    """A connection of either kind between two containers, with both ends in hand."""

    def __init__(self, client: Standpoint, server: Standpoint, port: int, *, udp: bool = False) -> None:
        self._udp = udp
        self._ends = udp_pair(client, server, port) if udp else pair(client, server, port)

    def lives(self) -> bool:
        return is_alive(*self._ends)

    def is_cut(self) -> bool:
        """TCP: both ends are reset. UDP: nothing gets through from either end, and both are told."""
        return all(map(refuses if self._udp else is_reset, self._ends))


def refuses(end: socket.socket) -> bool:
    """Whether what is sent is refused; told again and again, as ICMP errors are limited."""
    end.settimeout(0.2)
    for _ in range(25):
        try:
            end.send(b"!")
            end.recv(16)
        except TimeoutError:
            continue
        except ConnectionRefusedError:
            return True
        return False
    return False


@contextmanager
def halted(cell: CellUnderTest) -> Iterator[None]:
    """The agent stands still, and goes on after the block."""
    pid = cell.agent_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
