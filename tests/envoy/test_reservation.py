"""Holding the TLS port for Envoy's user: the kernel's own rules, in a namespace."""

import os
import socket
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from dataplane.envoy.sockets.container_ports import ContainerPort, connections, reserve
from host.errors import HostRefused
from host.namespace import run_in
from tests.testlib.netns import Netns

API = IPv4Address("10.255.1.2")
PORT, ENVOY, SOMEBODY = 61443, 12345, 23456


def listening(place: Netns, address: str, *, uid: int = 0, reuse: bool = False) -> socket.socket:
    """What Envoy does, and what others may try: every option that shares a port."""

    def make() -> socket.socket:
        made = socket.socket()
        os.fchown(made.fileno(), uid, -1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse))
        try:
            made.bind((address, PORT))
            made.listen()
        except OSError:
            made.close()
            raise
        return made

    return run_in(place.path, make)


def test_only_envoys_user_gets_a_port_that_is_held(netns: Callable[[str], Netns]) -> None:
    place = netns("web")
    with reserve(ContainerPort(API, PORT, place.path), uid=ENVOY):
        place.run("ip", "addr", "add", f"{API}/32", "dev", "lo")  # later: an attach holds the port before the address is there
        for address in (str(API), "0.0.0.0"):
            for uid, reuse in ((0, False), (0, True), (SOMEBODY, True)):
                with pytest.raises(OSError, match="already in use"):
                    listening(place, address, uid=uid, reuse=reuse)
        call = lambda: socket.create_connection((str(API), PORT), timeout=5)  # noqa: E731
        with listening(place, str(API), uid=ENVOY, reuse=True) as envoy, run_in(place.path, call):
            envoy.settimeout(5)
            envoy.accept()[0].close()


def test_a_port_is_held_beside_an_envoy_that_has_it(netns: Callable[[str], Netns]) -> None:
    place = netns("web")
    place.run("ip", "addr", "add", f"{API}/32", "dev", "lo")
    with listening(place, str(API), uid=ENVOY, reuse=True), reserve(ContainerPort(API, PORT, place.path), uid=ENVOY):
        pass


def test_a_port_in_use_is_refused(netns: Callable[[str], Netns]) -> None:
    place = netns("web")
    with listening(place, "0.0.0.0", reuse=True), pytest.raises(HostRefused, match="port 61443 is in use") as refusal:
        reserve(ContainerPort(API, PORT, place.path), uid=ENVOY)
    assert "ss -ltn" in refusal.value.hint


def test_only_connections_that_are_open_are_counted(netns: Callable[[str], Netns]) -> None:
    """Neither the socket that holds the port, nor the listener, nor what is over."""
    place = netns("web")
    place.run("ip", "addr", "add", f"{API}/32", "dev", "lo")
    port, other = ContainerPort(API, PORT, place.path), ContainerPort(API, PORT + 1, place.path)
    with reserve(port, uid=ENVOY), listening(place, str(API), uid=ENVOY, reuse=True) as envoy:
        assert connections([port, other]) == 0
        ends = []
        for count in (1, 2):
            ends.append(run_in(place.path, lambda: socket.create_connection((str(API), PORT), timeout=5)))
            ends.append(envoy.accept()[0])
            assert (connections([port, other]), connections([other])) == (count, 0)
        ends[0].shutdown(socket.SHUT_WR)
        assert connections([port]) == 2, "one direction of it is open"
        for each in ends:
            each.close()
        assert connections([port]) == 0


def test_a_namespace_that_is_gone_has_no_connections(netns: Callable[[str], Netns]) -> None:
    place = netns("web")
    assert connections([ContainerPort(API, PORT, place.path.parent / "none")]) == 0
