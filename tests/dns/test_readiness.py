"""Which containers names lead to, by what is seen in their namespaces: of the container that is there now, and of no other."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.daemon.clock import Clock
from agent.dns.readiness import Readiness
from agent.model.app_port import AppPort
from agent.model.attachment import Attachment
from dataplane.flows.port_looks import PortLooks
from dataplane.flows.served import PortLook, ServicePort
from host import namespace
from host.namespace import run_in
from tests.testlib.beside import beside
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app, attachment

ADDRESS = IPv4Address("127.0.0.1")  # of every container here: their namespaces are their own
TLS, API = AppPort(61443), AppPort(8080)


class Scene:
    """`looks` are begun by `make`; pins are below `pins`. `kicks` counts what the loop would hear of."""

    def __init__(self, pins: Path, netns: Callable[[str], Netns]) -> None:
        self.pins, self._netns = pins, netns
        self.make: Callable[[ServicePort], PortLook] = PortLook
        self.kicks = 0
        self.now = 0.0  # seconds that the clock is ahead
        self._stack = contextlib.ExitStack()

    def readiness(self, *, within: float = 30.0, sees_udp: bool = True) -> Readiness:
        looks = PortLooks[str](within=within, make=lambda port: self.make(port))
        self._stack.callback(looks.close)
        elapsed = Clock().elapsed
        return Readiness(looks, pins=self.pins, reserved={61443}, elapsed=lambda: elapsed() + self.now, sees_udp=sees_udp)

    def container(self, name: str, *ports: AppPort, guid: str = "") -> Attachment:
        """Pinned anew under its name, an address and an app."""
        place, pin = self._netns(name), self.pins / name
        descriptor = namespace.open_namespace(place.path)
        with open(descriptor, closefd=True):
            namespace.pin(descriptor, pin)
        self._stack.callback(namespace.unpin, pin)
        return replace(attachment(app("web"), address=ADDRESS, name=name), ports=ports, guid=guid or name)

    def serve(self, held: Attachment, port: int = 8080) -> socket.socket:
        made = run_in(self.pins / held.name, lambda: socket.create_server((str(ADDRESS), port)))
        return self._stack.enter_context(made)

    @contextlib.asynccontextmanager
    async def looking(self, made: Readiness) -> AsyncIterator[None]:
        def kick() -> None:
            self.kicks += 1

        async with beside(made.run(kick)):
            yield

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def scene(tmp_path: Path, netns: Callable[[str], Netns]) -> Iterator[Scene]:
    made = Scene(tmp_path, netns)
    yield made
    made.close()


async def waiting(made: Readiness) -> list[str]:
    return [each.partition(" ")[0] for each in (await made.rows())["names"].waiting]  # type: ignore[attr-defined]


async def test_a_container_is_ready_when_it_serves_and_the_loop_hears_of_it_once(scene: Scene) -> None:
    made, web, job = scene.readiness(), scene.container("web", API), scene.container("job")
    async with scene.looking(made):
        made.follow((web, job))
        assert made.ready() == (job,)
        await asyncio.sleep(0.1)
        assert (made.ready(), await waiting(made), scene.kicks) == ((job,), ["web"], 0)
        scene.serve(web)
        await eventually_async(lambda: made.ready() == (web, job))
        before = made.ready()
        await asyncio.sleep(1.2)  # looked at once more
        assert made.ready() is before
        assert (await waiting(made), scene.kicks) == ([], 1)
        made.follow((job,))
        assert made.ready() == (job,)


async def test_a_container_that_takes_anothers_name_is_not_ready_by_what_that_served(scene: Scene) -> None:
    made, first = scene.readiness(), scene.container("web", API, guid="first")
    async with scene.looking(made):
        scene.serve(first)
        made.follow((first,))
        await eventually_async(lambda: made.ready() == (first,))
        second = scene.container("web", API, guid="second")  # between two turns: the same name, address and port
        made.follow((second,))
        assert made.ready() == ()
        await asyncio.sleep(0.2)
        assert made.ready() == ()
        scene.serve(second)
        await eventually_async(lambda: made.ready() == (second,))


async def test_a_port_of_envoys_is_no_apps(scene: Scene) -> None:
    made, both, alone = scene.readiness(), scene.container("both", TLS, API), scene.container("alone", TLS)
    async with scene.looking(made):
        for each in (both, alone):
            scene.serve(each, 61443)
        made.follow((both, alone))
        await asyncio.sleep(0.2)
        assert made.ready() == (alone,)  # whose app has no port of its own
        scene.serve(both)
        await eventually_async(lambda: made.ready() == (both, alone))


class StuckLook(PortLook):
    """A look in a namespace whose root keeps the kernel busy."""

    def __init__(self, port: ServicePort, let_go: threading.Event) -> None:
        super().__init__(port)
        self._let_go = let_go

    def is_served(self) -> bool:
        self._let_go.wait(60)
        return super().is_served()


async def test_a_container_that_does_not_answer_stays_what_it_was_is_named_and_keeps_no_other(scene: Scene) -> None:
    made, web, stuck = scene.readiness(within=0.1), scene.container("web", API), scene.container("stuck", API)
    let_go = threading.Event()
    scene.make = lambda port: StuckLook(port, let_go) if port.pin.name == "stuck" else PortLook(port)
    async with scene.looking(made):
        made.follow((stuck, web))
        await eventually_async(lambda: bool(list(made.problems())))
        assert [each.what for each in made.problems()] == [
            "stuck: cannot see whether it is served: its namespace does not answer"
        ]
        scene.serve(web)
        scene.serve(stuck)
        await eventually_async(lambda: made.ready() == (web,))
        let_go.set()
        await eventually_async(lambda: made.ready() == (stuck, web))
        assert list(made.problems()) == []


def test_a_container_that_served_when_it_was_seen_last_stays_ready_while_it_does_not_answer(scene: Scene) -> None:
    let_go = threading.Event()
    let_go.set()
    scene.make = lambda port: StuckLook(port, let_go)
    made, web = scene.readiness(within=0.1), scene.container("web", API)
    server = scene.serve(web)
    made.first_look((web,))
    let_go.clear()
    server.close()
    for _ in range(5):
        scene.now += 2.0
        made.first_look((web,))
        assert made.ready() == (web,)
    let_go.set()


async def test_a_container_whose_namespace_is_gone_is_not_ready_and_named(scene: Scene) -> None:
    made, web = scene.readiness(), scene.container("web", API)
    namespace.unpin(scene.pins / "web")
    async with scene.looking(made):
        made.follow((web,))
        await eventually_async(lambda: bool(list(made.problems())))
        assert made.ready() == ()
    (problem,) = made.problems()
    assert "cannot enter the namespace" in problem.what


def test_what_serves_when_the_agent_starts_is_ready_before_its_first_turn(scene: Scene) -> None:
    made, web, api = scene.readiness(), scene.container("web", API), scene.container("api", API)
    scene.serve(web)
    made.first_look((web, api))
    assert made.ready() == (web,)


async def test_where_the_kernel_shows_no_udp_its_apps_are_ready_and_that_is_said(scene: Scene) -> None:
    made = scene.readiness(sees_udp=False)
    dns, web = scene.container("dns", AppPort(53, "udp"), API), scene.container("web", API)
    async with scene.looking(made):
        made.follow((web,))
        assert list(made.problems()) == []
        made.follow((web, dns))
        await asyncio.sleep(0.1)
        assert made.ready() == (dns,)
    assert ["udp_diag" in each.hint for each in made.problems()] == [True]
