"""Looks at many containers' ports: one that never comes back holds up the others once, and is not asked for meanwhile."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.flows.port_looks import PortLooks
from dataplane.flows.served import PortLook, ServicePort
from host.errors import HostRefused
from host.namespace import run_in
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually

HOME = Path("/proc/self/ns/net")


def port(pin: Path = HOME, number: int = 8080) -> ServicePort:
    return ServicePort(pin, "lo", IPv4Address("127.0.0.1"), number, "tcp")


class StuckLook(PortLook):
    """One that comes back when it is let, as in a kernel that is busy with what root inside has asked of it."""

    def __init__(self, port: ServicePort, let_go: threading.Event) -> None:
        super().__init__(port)
        self.let_go, self.closed = let_go, False

    def is_served(self) -> bool:
        self.let_go.wait(60)
        return True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_each_is_answered_by_its_own_namespace(netns: Callable[[str], Netns]) -> None:
    served, silent = netns("served"), netns("silent")
    with closing(PortLooks[str]()) as looks, run_in(served.path, lambda: socket.create_server(("127.0.0.1", 8080))):
        ports = {"served": port(served.path), "silent": port(silent.path), "gone": port(silent.path.with_name("gone"))}
        for _ in range(2):
            found = looks.look(ports, keep=ports)
            assert (found["served"], found["silent"]) == (True, False)
            assert isinstance(found["gone"], HostRefused)


def test_what_is_not_kept_lets_its_namespace_go(netns: Callable[[str], Netns]) -> None:
    place = netns("left")
    with closing(PortLooks[str]()) as looks:
        looks.look({"a": port(place.path)}, keep=["a"])
        assert open_sockets(looks) == 1
        looks.look({}, keep=[])
        assert open_sockets(looks) == 0


def open_sockets(looks: PortLooks[str]) -> int:
    return sum(each._link is not None for each in looks._looks.values())


def test_a_look_that_does_not_come_back_holds_the_others_up_once(let_go: threading.Event) -> None:
    def make(port: ServicePort) -> PortLook:
        return StuckLook(port, let_go) if port.number == 1 else PortLook(port)

    looks, ports = PortLooks[str](within=0.2, make=make), {"before": port(), "stuck": port(number=1), "behind": port()}
    with closing(looks):
        assert looks.look(ports, keep=ports).keys() == {"before"}
        assert looks.stuck == {"stuck"}
        for _ in range(3):
            started = time.monotonic()
            assert looks.look(ports, keep=ports).keys() == {"before", "behind"}
            assert time.monotonic() - started < 30  # though it would wait for a minute
        let_go.set()
        eventually(lambda: looks.look(ports, keep=ports).keys() == ports.keys())
        assert looks.stuck == frozenset()


def test_one_that_is_stuck_when_it_goes_is_let_go_of_when_it_comes_back(let_go: threading.Event) -> None:
    made: list[StuckLook] = []

    def make(port: ServicePort) -> PortLook:
        made.append(StuckLook(port, let_go))
        return made[-1]

    with closing(PortLooks[str](within=0.1, make=make)) as looks:
        assert looks.look({"stuck": port()}, keep=["stuck"]) == {}
        looks.look({}, keep=[])
        assert not made[0].closed
        let_go.set()
        eventually(lambda: made[0].closed)
