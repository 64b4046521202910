"""Whether an app serves a port: by the sockets in its namespace that would get a call to its overlay address."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.flows.served import REOPEN, PortLook, ServicePort, sees_udp
from host.errors import HostRefused
from host.namespace import NamespaceId, NamespaceThread, run_in
from tests.testlib.netns import Netns

ADDRESS = IPv4Address("10.255.1.2")
PORT = 8080


@dataclass
class Inside:
    """A container's namespace, its sockets, and looks at PORT in there. All goes with the test."""

    place: Netns
    stack: ExitStack

    def look(self, protocol: str = "tcp", *, interface: str = "eth0") -> PortLook:
        made = PortLook(ServicePort(self.place.path, interface, ADDRESS, PORT, protocol))
        self.stack.callback(made.close)
        return made

    def open(
        self, address: str, *, protocol: str = "tcp", only_ipv6: bool = False, device: str = "", listens: bool = True
    ) -> socket.socket:
        return self.stack.enter_context(
            run_in(self.place.path, lambda: _opened(address, protocol, only_ipv6=only_ipv6, device=device, listens=listens))
        )


def _opened(address: str, protocol: str, *, only_ipv6: bool, device: str, listens: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    made.bind((address, PORT))
    if protocol == "tcp" and listens:
        made.listen()
    return made


@pytest.fixture
def inside(netns: Callable[[str], Netns]) -> Iterator[Inside]:
    place = netns("app")
    with_eth0(place)
    with ExitStack() as stack:
        yield Inside(place, stack)


def with_eth0(place: Netns) -> None:
    place.run("ip", "link", "add", "eth0", "type", "bridge")
    place.run("ip", "link", "set", "eth0", "up")
    place.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "eth0")
    place.run("ip", "route", "add", "default", "dev", "eth0")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", [str(ADDRESS), "0.0.0.0", "::", f"::ffff:{ADDRESS}"])
def test_a_server_on_the_overlay_address_or_on_all_addresses_serves(inside: Inside, protocol: str, address: str) -> None:
    look = inside.look(protocol)
    assert not look.is_served()
    server = inside.open(address, protocol=protocol)
    assert look.is_served()
    assert not inside.look("udp" if protocol == "tcp" else "tcp").is_served()
    server.close()
    assert not look.is_served()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_server_that_no_call_to_the_overlay_address_reaches_does_not_serve(inside: Inside, protocol: str) -> None:
    inside.open("127.0.0.1", protocol=protocol)
    inside.open("::", protocol=protocol, only_ipv6=True)
    assert not inside.look(protocol).is_served()


def test_a_socket_that_is_bound_and_does_not_listen_serves_no_tcp(inside: Inside) -> None:
    inside.open("0.0.0.0", listens=False)
    assert not inside.look().is_served()


def test_a_socket_that_takes_datagrams_of_one_other_end_alone_serves_no_udp(inside: Inside) -> None:
    inside.open(str(ADDRESS), protocol="udp").connect(("10.255.1.3", 99))
    assert not inside.look("udp").is_served()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_server_that_is_bound_to_the_interface_serves_also_when_that_is_made_anew(inside: Inside, protocol: str) -> None:
    look = inside.look(protocol)
    server = inside.open("0.0.0.0", protocol=protocol, device="eth0")
    assert look.is_served()
    server.close()
    inside.place.run("ip", "link", "delete", "eth0")
    inside.place.run("ip", "link", "add", "other", "type", "bridge")  # takes the number
    with_eth0(inside.place)
    inside.open("0.0.0.0", protocol=protocol, device="eth0")
    assert any(look.is_served() for _ in range(REOPEN + 1))


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_server_that_is_bound_to_another_interface_does_not_serve(inside: Inside, protocol: str) -> None:
    inside.open("0.0.0.0", protocol=protocol, device="lo")
    assert not inside.look(protocol).is_served()
    assert not inside.look(protocol, interface="gone").is_served()


def test_another_namespaces_server_is_not_seen(inside: Inside, netns: Callable[[str], Netns]) -> None:
    other = netns("other")
    with_eth0(other)
    inside.open(str(ADDRESS))
    with closing(PortLook(ServicePort(other.path, "eth0", ADDRESS, PORT, "tcp"))) as look:
        assert not look.is_served()


def test_a_look_leaves_its_thread_at_home_and_a_closed_one_lets_the_namespace_go(inside: Inside) -> None:
    with closing(NamespaceThread()) as thread:
        home, look = thread.call(_here), inside.look()
        inside.open(str(ADDRESS))
        assert thread.call(look.is_served)
        assert thread.call(_here) == home
        assert thread.call(look.is_served)  # from outside, by the socket that it keeps
        look.close()
        assert thread.call(look.is_served)


def _here() -> NamespaceId:
    return NamespaceId.of(_own())


def _own() -> Path:
    return Path(f"/proc/self/task/{threading.get_native_id()}/ns/net")


def test_a_namespace_that_is_not_there_is_an_error(inside: Inside) -> None:
    port = ServicePort(inside.place.path.with_name("none"), "eth0", ADDRESS, PORT, "tcp")
    with pytest.raises(HostRefused, match="cannot enter the namespace"):
        PortLook(port).is_served()


def test_the_kernel_here_shows_sockets_of_udp() -> None:
    assert sees_udp()
