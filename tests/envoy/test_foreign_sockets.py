"""Programs that listen beside Envoy: which sockets are Envoy's, and when a container is left alone."""

import asyncio
import os
import socket
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from agent.envoy.foreign_listeners import PERIOD, ForeignListeners
from agent.envoy.listeners import ServedListener
from agent.envoy.repeat_offenders import WITHIN
from dataplane.envoy.sockets import foreign as foreign_sockets
from dataplane.envoy.sockets.container_ports import ContainerPort
from dataplane.envoy.sockets.foreign import ForeignSockets
from dataplane.envoy.translation import listener_key
from dataplane.flows import sockdiag
from host.namespace import run_in
from tests.testlib.envoy import API, ENVOY_ID, PORT, EnvoyCell, EnvoyPair
from tests.testlib.patience import eventually

WORKERS = 2


@pytest.fixture
def port(cell: EnvoyCell, pair: EnvoyPair) -> ContainerPort:
    cell.serve(pair.workload(cell.leaf()))
    return ContainerPort(API, PORT, pair.api.path)


def beside_envoy(port: ContainerPort, address: str, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(family)
        os.fchown(made.fileno(), ENVOY_ID, -1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, PORT))
        made.listen()
        return made

    return run_in(port.pin, make)


def listening(port: ContainerPort) -> int:
    return run_in(port.pin, lambda: len(sockdiag.listeners_at(PORT)))


@pytest.mark.parametrize(
    ("address", "family"), [(str(API), socket.AF_INET), ("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)]
)
def test_every_socket_beside_envoy_is_destroyed_and_envoys_stay(
    cell: EnvoyCell, port: ContainerPort, address: str, family: socket.AddressFamily
) -> None:
    sockets = ForeignSockets(cell.envoy.settings.admin)
    assert sockets.destroy([port]) == frozenset()
    made = [beside_envoy(port, address, family) for _ in range(5)]
    assert listening(port) == WORKERS + 5
    assert sockets.destroy([port]) == {port}
    assert listening(port) == WORKERS
    assert sockets.destroy([port]) == frozenset()
    for each in made:
        each.close()


def test_what_was_accepted_ends_too(cell: EnvoyCell, port: ContainerPort) -> None:
    with beside_envoy(port, str(API)) as thief:
        thief.setblocking(False)
        calls, taken = list[socket.socket](), None
        until = time.monotonic() + 10
        while taken is None and time.monotonic() < until:
            calls.append(run_in(port.pin, lambda: socket.create_connection((str(API), PORT))))
            try:
                taken, _ = thief.accept()
            except BlockingIOError:
                continue
        assert taken
        assert ForeignSockets(cell.envoy.settings.admin).destroy([port]) == {port}
        with pytest.raises(OSError, match=r"abort|reset"):
            taken.send(b"!")
        for each in (taken, *calls):
            each.close()


def test_nothing_is_destroyed_while_it_is_uncertain_which_process_is_envoy(port: ContainerPort, tmp_path: Path) -> None:
    with beside_envoy(port, str(API)):
        assert ForeignSockets(tmp_path / "none.sock").destroy([port]) == frozenset()
        assert listening(port) == WORKERS + 1


def test_the_sockets_of_an_envoy_that_was_started_again_stay(cell: EnvoyCell, port: ContainerPort) -> None:
    sockets = ForeignSockets(cell.envoy.settings.admin)
    sockets.destroy([port])
    cell.envoy.kill()
    with beside_envoy(port, str(API)):
        assert sockets.destroy([port]) == frozenset()
        cell.envoy.folder.joinpath("admin.sock").unlink()
        cell.envoy.start()
        eventually(lambda: listening(port) == WORKERS + 1)
        eventually(lambda: sockets.destroy([port]) == {port})
        assert listening(port) == WORKERS


def test_no_descriptor_is_read_where_nothing_is_new(
    cell: EnvoyCell, port: ContainerPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Mock(wraps=foreign_sockets.envoy_inodes)
    monkeypatch.setattr(foreign_sockets, "envoy_inodes", reads)
    sockets = ForeignSockets(cell.envoy.settings.admin)
    for _ in range(3):
        sockets.destroy([port])
    assert reads.call_count == 1


class Stubborn:
    """A container whose root listens again at once, and the agent's look at it on a clock of its own."""

    def __init__(self) -> None:
        self.now, self.destroyed, self.repairs = 1000.0, list[float](), list[str]()
        self.port = ContainerPort(API, PORT, Path("/run/netns/api"))
        served = {self.port: ServedListener(API, listener_key(API), {})}
        self.listeners = ForeignListeners(
            lambda: served, destroy=self._destroy, clock=lambda: self.now, on_repair=self.repairs.append
        )

    def _destroy(self, ports: object) -> frozenset[ContainerPort]:
        if self.port in ports:  # type: ignore[operator]
            self.destroyed.append(self.now)
            return frozenset({self.port})
        return frozenset()

    def look_until(self, end: float) -> None:
        while self.now < end:
            asyncio.run(self.listeners.look())
            self.now += PERIOD


def test_a_container_that_goes_on_is_left_alone_for_longer_and_longer_and_named() -> None:
    scene = Stubborn()
    assert not list(scene.listeners.problems())
    scene.look_until(1030)
    assert len(scene.destroyed) == len(scene.repairs) == 3
    (problem,) = scene.listeners.problems()
    assert problem.what.startswith("api: a program inside keeps listening on port 61443 beside Envoy")
    scene.look_until(2500)
    # 3 times, 300 s, 3 times, 600 s, 3 times
    assert [round(each) for each in scene.destroyed] == [1000, 1010, 1020, 1320, 1330, 1340, 1940, 1950, 1960]


def test_seldom_ones_are_destroyed_each_time() -> None:
    scene = Stubborn()
    for _ in range(8):
        scene.look_until(scene.now + 1)
        scene.now += WITHIN
    assert len(scene.destroyed) == 8
    assert not list(scene.listeners.problems())
