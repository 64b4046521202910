"""A container's namespace with the interior that the dataplane gives it, and all the rest at the other end of its link.

What stands in for Envoy are sockets of the test's own process at Envoy's ports.
"""

import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from ipaddress import IPv4Address, IPv4Network

from dataplane.netlink import interior
from dataplane.state import INBOUND_PORT, OUTBOUND_PORT
from dataplane.tables import GATEWAY, Interior, Redirect, container_mac, host_mac
from host.namespace import run_in
from tests.testlib.netns import Netns
from tests.testlib.node import PATIENCE, Node, Target

OVERLAY, TLS_PORT, APP_PORT = IPv4Network("10.255.0.0/16"), 61443, 8080
WEB, API, EXEMPT, OUTSIDE = map(IPv4Address, ("10.255.1.2", "10.255.2.3", "10.255.3.3", "192.0.2.9"))
EXEMPT_PART = IPv4Network("10.255.3.0/24")
SO_ORIGINAL_DST = 80

PLAIN_TOO = Redirect(OVERLAY, (INBOUND_PORT, TLS_PORT), (EXEMPT_PART,))
STRICT = Redirect(OVERLAY, (INBOUND_PORT, TLS_PORT), only_tunnels=True)
NOTHING_NEW = Redirect(OVERLAY, (INBOUND_PORT, TLS_PORT), (OVERLAY,))


class Bed:
    """`web` is the container, `beyond` has all other addresses."""

    def __init__(self) -> None:
        self.inside, self.outside = Netns("web"), Netns("beyond")
        self.web, self.beyond = Node(self.inside.path, address=WEB), Node(self.outside.path, address=API)
        self.inside.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.outside.name)
        link = f"link set eth0 address {host_mac(WEB)} up"
        addresses = [f"address add {each}/32 dev lo" for each in (API, EXEMPT, OUTSIDE, GATEWAY)]
        neighbour = f"neighbour add {WEB} lladdr {container_mac(WEB)} dev eth0 nud permanent"
        for words in (link, *addresses, f"route add {WEB}/32 dev eth0", neighbour):
            self.outside.run("ip", *words.split())

    def interior(self, redirect: Redirect | None) -> Interior:
        """What the container should have."""
        return Interior(
            self.inside.path, "eth0", container_mac(WEB), host_mac(WEB), 1450, original_source=True, redirect=redirect
        )

    def become(self, redirect: Redirect | None) -> None:
        """Give the container this one."""
        interior.program(WEB, self.interior(redirect))

    def has(self, redirect: Redirect | None) -> bool:
        """Whether a look finds it there."""
        return interior.read(WEB, self.interior(redirect)) is not None

    def tables(self) -> str:
        """What `nft` says of all that is there."""
        return self.inside.run("nft", "list", "ruleset")

    def listeners(self) -> dict[str, socket.socket]:
        """Where a call from the container may arrive, each by a word."""
        inside = {"envoy": ("127.0.0.1", OUTBOUND_PORT), "own app": (str(WEB), APP_PORT)}
        beyond = {"app": APP_PORT, "tunnel": INBOUND_PORT, "tls": TLS_PORT}
        return {word: self.web.listen(port, address=address) for word, (address, port) in inside.items()} | {
            word: self.beyond.listen(port) for word, port in beyond.items()
        }

    def stream(self, target: Target, port: int, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
        """Both ends of a call from the container that arrives at `listener`."""
        calling = self.web.dial(target, port)
        return calling, self.web.keep(listener.accept()[0])

    def call(self, listener: socket.socket, *, port: int = 0) -> tuple[socket.socket, socket.socket]:
        """Both ends of a call to the app inside from API, whose port may be given."""
        calling = self.beyond.dial(self.web, APP_PORT, source_port=port)
        return calling, self.web.keep(listener.accept()[0])

    def stream_of_tunnel(self, mark: int, listener: socket.socket, *, port: int = 0) -> tuple[socket.socket, socket.socket]:
        """Both ends of what Envoy opens to the app inside for a caller at API: with the caller's address, and a mark."""

        def dialled() -> socket.socket:
            made = socket.socket()
            made.settimeout(PATIENCE)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            made.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
            made.bind((str(API), port))
            made.connect((str(WEB), APP_PORT))
            return made

        calling = self.web.keep(run_in(self.inside.path, dialled))
        return calling, self.web.keep(listener.accept()[0])

    def close(self) -> None:
        """Close sockets and namespaces."""
        for each in (self.web, self.beyond, self.inside, self.outside):
            each.close()


@contextmanager
def held_by_root(place: Netns) -> Iterator[None]:
    """For as long as a program of its root runs, the table is that program's alone."""
    with place.start("nft", "-i", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"add table ip cellnet { flags owner; }\nlist tables\n")
        program.stdin.flush()
        assert b"cellnet" in program.stdout.readline()
        yield
        program.stdin.close()


@contextmanager
def redirect_bed() -> Iterator[Bed]:
    with closing(Bed()) as made:
        yield made


def arrival(bed: Bed, listeners: dict[str, socket.socket], target: Target, port: int) -> str:
    """The word of the listener at which a call from the container arrives; for Envoy besides where the call was going."""
    with ExitStack() as opened:
        opened.enter_context(bed.web.dial(target, port))
        ready, _, _ = select.select(list(listeners.values()), [], [], PATIENCE)
        (word,) = (word for word, each in listeners.items() if each in ready)
        taken, _ = listeners[word].accept()
        opened.enter_context(taken)
        return f"{word} for {original_destination(taken)}" if word == "envoy" else word


def original_destination(taken: socket.socket) -> str:
    """Where a call was going that has been redirected, as Envoy asks for it."""
    found = taken.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    return f"{IPv4Address(found[4:8])}:{int.from_bytes(found[2:4], 'big')}"


def works(calling: socket.socket, taking: socket.socket, word: bytes = b"hello") -> bool:
    """Whether bytes get through in both directions."""
    calling.sendall(word)
    if taking.recv(64) != word:
        return False
    taking.sendall(word)
    return calling.recv(64) == word
