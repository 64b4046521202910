"""Live connections between two places, with both ends in the test's hands: whether they go on, or are cut."""

import errno
import socket
from contextlib import suppress

from tests.testlib import patience
from tests.testlib.containers import Container
from tests.testlib.instance import Instance
from tests.testlib.node import PATIENCE, Node, pair, udp_pair

BROKEN = (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE)  # what a reset looks like from inside


class LiveConnections:
    """Connections of every kind from web to api of `three_apps`, old when something happens."""

    def __init__(self, web: Instance, api: Instance) -> None:
        self._tcp, self._idle = web.dial(api, 8080), pair(web, api, 9000)
        self._tls = web.dial_tls(api)
        self._udp = web.datagrams()
        self._udp.connect((str(api.address), 8080))
        assert self.go_on()

    def go_on(self) -> bool:
        """Whether each still carries bytes both ways."""
        return all(map(echoed, (self._tcp, self._tls, self._udp))) and is_alive(*self._idle)


class ConnectionPair:
    """A TCP connection and a UDP exchange between two containers; `server` answers on 8080."""

    def __init__(self, client: Container, server: Container) -> None:
        self._tcp, self._udp = client.dial(server, 8080), client.datagrams()
        self._udp.connect((str(server.address), 8080))
        assert self.go_on()

    def go_on(self) -> bool:
        """Whether both carry bytes there and back."""
        return echoed(self._tcp) and echoed(self._udp)

    def go_on_again(self) -> bool:
        """The same, where datagrams may have been lost meanwhile: late ones are thrown away first."""
        self._udp.setblocking(False)
        with suppress(OSError):
            while self._udp.recv(16):
                pass
        self._udp.settimeout(PATIENCE)
        with suppress(OSError):
            return self.go_on()
        return False


class Flow:
    """A TCP connection or a UDP exchange between two containers, with both ends in hand."""

    def __init__(self, client: Node, server: Node, port: int, *, udp: bool = False) -> None:
        self._udp = udp
        self._ends = udp_pair(client, server, port) if udp else pair(client, server, port)

    def lives(self) -> bool:
        return is_alive(*self._ends)

    def is_cut(self) -> bool:
        """TCP: both ends are reset. UDP: nothing gets through from either end, and both get the refusal."""
        return all(map(is_refused if self._udp else is_reset, self._ends))


def echoed(connection: socket.socket) -> bool:
    """Whether what is sent comes back."""
    connection.send(b"echo")
    return connection.recv(4) == b"echo"


def is_alive(*ends: socket.socket) -> bool:
    """Whether a byte gets through from each end to the other."""
    one, other = ends
    for sender, receiver in ((one, other), (other, one)):
        sender.send(b"!")
        if receiver.recv(1) != b"!":
            return False
    return True


def is_reset(end: socket.socket) -> bool:
    """Wait for the end of a connection to break: whether it broke by a reset. What arrives before is thrown away."""
    end.settimeout(patience.PATIENCE)
    try:
        while end.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError as error:
        return error.errno in BROKEN
    return False


def is_ended(connection: socket.socket) -> bool:
    """Whether the other side ends a connection, by a reset or without, with or without last words."""
    connection.settimeout(patience.PATIENCE)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def is_refused(end: socket.socket) -> bool:
    """Whether datagrams are refused; sent again and again, as the kernel limits ICMP errors."""
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
