"""Readers that pause hold Envoy's memory: the container that has most of them loses those, before others are refused."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial

import pytest
from google.protobuf.duration_pb2 import Duration

from agent.envoy.listeners import Served, ServedListener
from agent.envoy.memory_relief import FULL, MemoryRelief
from agent.envoy.pressure import COUNTERS, Pressure
from dataplane.envoy.process import admin, overload
from dataplane.envoy.sockets.container_ports import ContainerPort
from dataplane.envoy.sockets.stuck_connections import end, stuck_connections
from dataplane.envoy.translation import listener_key
from dataplane.state import INBOUND_PORT, OUTBOUND_PORT, Allow, InboundListener
from host.namespace import run_in
from tests.testlib.attacks.bystander import Bystander
from tests.testlib.envoy import API, ENVOY_ID, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial, exchange
from tests.testlib.patience import eventually
from tests.testlib.tunnels.pair import API_TAG, WEB_TAG, TunnelPair, serve

LITTLE_MEMORY = 128 << 20
MANY = 150
pytestmark = pytest.mark.usefixtures("many_files")


class Scene:
    """`web` and `api` call each other; what the agent does for Envoy's memory is done once `relieved` is entered."""

    def __init__(self, stack: contextlib.ExitStack, *, workers: int = 2) -> None:
        self.cell, self.pair = EnvoyCell(workers=workers, memory=LITTLE_MEMORY), EnvoyPair()
        stack.callback(self.cell.close)
        stack.callback(self.pair.close)
        self.cell.start()
        tunnels = TunnelPair(self.cell, self.pair)
        serve(self.cell, tunnels.workload("web", WEB, WEB_TAG, Allow(API_TAG, "tcp", 8000, 8999)))
        for app in (EchoApp(self.pair.api.path), EchoApp(self.pair.web.path, address=WEB)):
            stack.callback(app.close)
        self.told: list[tuple[int, str]] = []
        self.pressure = Pressure(partial(admin.counters, self.cell.envoy.settings.admin, COUNTERS), connected=lambda: True)
        self.relief = MemoryRelief(
            self._served,
            heap=self.pressure.heap,
            find=partial(stuck_connections, envoy=ENVOY_ID),
            end=end,
            on_relief=lambda count, what: self.told.append((count, what)),
        )

    def _served(self) -> Served:
        return {
            ContainerPort(each.address, INBOUND_PORT, each.pin): ServedListener(
                each.address, listener_key(each.address, InboundListener), {}
            )
            for each in self.cell.state.workloads.values()
        }

    @contextlib.contextmanager
    def relieved(self) -> Iterator[None]:
        tasks = [asyncio.run_coroutine_threadsafe(each.run(), self.cell.loop.loop) for each in (self.pressure, self.relief)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    def streams(self, count: int, port: int, stack: contextlib.ExitStack) -> list[tuple[socket.socket, socket.socket]]:
        """So many from `web` to a port of `api`; both ends of each."""
        with run_in(self.pair.api.path, lambda: socket.create_server((str(API), port), backlog=count)) as server:
            server.settimeout(10)
            made = []
            for _ in range(count):
                caller = stack.enter_context(dial(self.pair.web.path, port=port))
                made.append((caller, stack.enter_context(server.accept()[0])))
            return made


@pytest.fixture
def scene() -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        yield Scene(stack)


def is_over(connection: socket.socket) -> bool:
    """Whether it was reset or closed, seen by what sends on it."""
    try:
        connection.send(b"x" * 1_000_000)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """With an Envoy that ends nothing by itself, as one whose heap is full and grows no more."""
    kept = [each for each in overload._actions() if not each.name.endswith("reset_high_memory_stream")]
    monkeypatch.setattr(overload, "_actions", lambda: kept)
    with contextlib.ExitStack() as stack:
        yield Scene(stack)


@pytest.mark.parametrize("reader", ["the caller", "the app"])
def test_the_container_that_does_not_read_loses_its_connections_and_others_are_served(patient: Scene, reader: str) -> None:
    with contextlib.ExitStack() as stack:
        senders = [ends[reader == "the caller"] for ends in patient.streams(MANY, 8081, stack)]
        for each in senders:
            each.setblocking(False)
        live = stack.enter_context(dial(patient.pair.web.path, port=8080))
        eventually(lambda: sum(map(is_over, senders)) == 0 and _heap(patient) >= FULL)
        with patient.relieved():
            eventually(lambda: sum(map(is_over, senders)) >= MANY - 10)
            eventually(lambda: patient.pressure.heap() < FULL)
        name = (patient.pair.web if reader == "the caller" else patient.pair.api).path.name
        assert {what.split()[3] for _, what in patient.told} == {name}
        assert exchange(live, b"still here") == b"still here"
        with dial(patient.pair.api.path, address=WEB, port=8080) as new:
            assert exchange(new, b"and I") == b"and I"


def _heap(scene: Scene) -> int:
    scene.cell.loop.run(scene.pressure.look())
    return scene.pressure.heap()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """With an Envoy that looks at its heap too seldom, as one that waits for a processor. All streams are one worker's."""
    monkeypatch.setattr(overload, "LOOK_AGAIN", Duration(seconds=1))
    with contextlib.ExitStack() as stack:
        yield Scene(stack, workers=1)


def test_an_envoy_whose_heap_has_grown_past_its_bound_ends_streams_until_it_serves_others_again(late: Scene) -> None:
    """By itself, since the agent does nothing here."""
    with contextlib.ExitStack() as stack:
        senders = [app for _, app in late.streams(MANY, 8081, stack)]
        for each in senders:
            each.setblocking(False)
        eventually(lambda: sum(map(is_over, senders)) or _heap(late) >= 100)
        eventually(lambda: _heap(late) < overload.REFUSE * 100)
        with dial(late.pair.api.path, address=WEB, port=8080) as new:
            assert exchange(new, b"served") == b"served"


def test_readers_that_pause_cost_hardly_another_call(scene: Scene) -> None:
    """By what Envoy does itself, and what the agent does besides. One in ten at most, until it is over."""
    with contextlib.ExitStack() as stack:
        senders = [app for _, app in scene.streams(MANY, 8081, stack)]
        for each in senders:
            each.setblocking(False)
        bystander = stack.enter_context(Bystander(lambda: dial(scene.pair.api.path, address=WEB, port=8080)))
        with scene.relieved():
            eventually(lambda: bystander.calls() >= 10 and sum(map(is_over, senders)) >= MANY // 3)
            calls = bystander.calls()
            eventually(lambda: bystander.calls() >= calls + 100)
    assert len(bystander.failures) <= bystander.calls() // 10, bystander.failures[:3]


def test_what_is_stuck_is_known_with_the_container_that_does_not_read(scene: Scene) -> None:
    containers = {WEB: scene.pair.web.path, API: scene.pair.api.path}
    with contextlib.ExitStack() as stack:
        idle = scene.streams(5, 8081, stack)
        down, up = scene.streams(3, 8082, stack), scene.streams(4, 8083, stack)
        for each in (*(app for _, app in down), *(caller for caller, _ in up)):
            each.setblocking(False)
        find = partial(stuck_connections, containers, envoy=ENVOY_ID)

        def seen() -> tuple[int, int]:
            for each in (*(app for _, app in down), *(caller for caller, _ in up)):
                is_over(each)
            found = [each for each in find() if each.seen]
            return sum(each.blamed == WEB for each in found), sum(each.blamed == API for each in found)

        eventually(lambda: seen() == (3, 4))
        assert {each.socket.local_port for each in find() if each.seen and each.blamed == WEB} == {OUTBOUND_PORT}
        assert end([each for each in find() if each.seen]) == 7
        for caller, app in idle:
            app.sendall(b"alive")
            assert caller.recv(5) == b"alive"


def test_a_container_without_much_that_is_stuck_loses_nothing(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        for _, app in (streams := scene.streams(5, 8081, stack)):
            app.setblocking(False)
        eventually(lambda: not any(is_over(app) for _, app in streams) and _has_some(scene))
        scene.cell.loop.run(scene.relief.relieve())
        assert scene.told == []


def _has_some(scene: Scene) -> bool:
    return any(each.seen for each in stuck_connections({WEB: scene.pair.web.path}, envoy=ENVOY_ID))
