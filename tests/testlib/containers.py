"""Containers that a test makes itself: namespaces put on the overlay through the control API, one by one or many at once."""

import itertools
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

import pytest

from agent.client.answer import Fields
from agent.client.connection import Refused, attachment_address
from agent.errors import Unavailable
from host import namespace
from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import Instance, is_listening, serving, sources
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually

CLIENTS = 20
_numbers = itertools.count()


class Container(Instance):
    """An attached namespace without a process of ours. `path` is the namespace as it was named."""

    def __init__(self, cell: CellUnderTest, found: Fields, *, path: Path) -> None:
        super(Instance, self).__init__(Path(found.text("pin")), address=IPv4Address(found.text("address")))
        self.cell, self.path = cell, path
        self.name, self.interface = found.text("name"), found.text("interface")
        self.environment = found.mapping("environment")

    def stop(self) -> int:
        """Detach it."""
        self.close()
        self.cell.client.delete(attachment_address(self.name))
        return 0

    def exec(self, *argv: str, code: int | None = 0) -> str:
        """As Instance.exec."""
        done = self.cell.cellnet("exec", self.name, "--", *argv, code=code)
        return done.out + done.err


class ServingContainer(Container):
    """A namespace of the test's on a cell's overlay; with ports it answers on them, TCP and UDP, as `server=True` does."""

    def __init__(self, cell: CellUnderTest, app: str, *, name: str | None, ports: tuple[int, ...]) -> None:
        known = name or app.rpartition("/")[2]
        self.place = Netns(known[:8])
        try:
            found = put(cell, known, app=app, path=self.place.path, ports=ports)
        except BaseException:
            self.place.close()
            raise
        super().__init__(cell, found, path=self.place.path)
        self.log = cell.lab.root / f"placed-{next(_numbers)}.log"
        self._server: subprocess.Popen[bytes] | None = None
        if ports:
            with self.log.open("wb") as log:
                self._server = self.place.start(*serving(ports), stdout=log)
            eventually(lambda: is_listening(self.pin, ports[-1]))

    def callers(self, port: int) -> list[str]:
        """The source addresses of all connections to a port so far, in order."""
        return sources(self.log, port)

    def end(self) -> None:
        """Its processes end, and then it is taken off the cell; an agent that is not there sweeps it later."""
        self.end_server()
        self.close()
        with suppress(Unavailable, Refused):
            self.cell.client.delete(attachment_address(self.name))
        self.place.close()

    def end_server(self) -> None:
        """kill -9 of the process that answers."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None


class Attach(Protocol):
    """What the fixture `attach` gives."""

    def __call__(self, app: str, *, to: Netns | Path | None = None, name: str | None = None,
                 ports: Sequence[int] = (), on: CellUnderTest | None = None) -> Container: ...  # fmt: skip


@pytest.fixture
def attach(request: pytest.FixtureRequest, netns: Callable[[str], Netns]) -> Iterator[Attach]:
    """`attach("acme/shop/web")` puts a new namespace, or the one given as `to`, on the overlay; detached after the test.

    On the module's `cell`, unless another is given by `on`.
    """
    made: list[Container] = []
    if "cell" in request.fixturenames:
        request.getfixturevalue("cell")  # made before us, so that it is there when we clean up

    def make(
        app: str, *, to: Netns | Path | None = None, name: str | None = None, ports: Sequence[int] = (),
        on: CellUnderTest | None = None,
    ) -> Container:  # fmt: skip
        cell = on or request.getfixturevalue("cell")
        known = name or app.rpartition("/")[2]
        place = to or netns(known)
        path = place.path if isinstance(place, Netns) else place
        made.append(Container(cell, put(cell, known, app=app, path=path, ports=ports), path=path))
        return made[-1]

    yield make
    for cell in {each.cell for each in made}:
        cell.start()
    for each in made:
        each.stop()


def put(cell: CellUnderTest, name: str, *, app: str, path: Path, ports: Sequence[int] = ()) -> Fields:
    """Attach a namespace; the attachment as the agent returns it."""
    return cell.client.ask("PUT", attachment_address(name), {"app": app, "netns": str(path), "ports": tuple(ports)}).fields


class ContainerPool:
    """`count` namespaces that go with the cell; the apps of their attachments are `ORG/there/crowd-NUMBER`.

    They are attached and detached by many clients of the control API side by side.
    """

    def __init__(self, cell: CellUnderTest, count: int, *, org: str = "crowd") -> None:
        self._cell, self._org = cell, org
        self._rounds = itertools.count()
        folder = cell.lab.root / "crowd"
        folder.mkdir()
        self.paths = [folder / str(number) for number in range(count)]
        for path in self.paths:
            namespace.create(path)

    def app(self, number: int) -> str:
        """The app of one of them."""
        return f"{self._org}/there/crowd-{number}"

    def attach(self) -> list[Container]:
        """All of them, under names that were never used before; in place when this returns."""
        round_ = next(self._rounds)
        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(lambda number: self._attach(number, f"crowd-{round_}-{number}"), range(len(self.paths))))

    def _attach(self, number: int, name: str) -> Container:
        path = self.paths[number]
        return Container(self._cell, put(self._cell, name, app=self.app(number), path=path, ports=(8080,)), path=path)


def detach_all(containers: Sequence[Container]) -> None:
    """Nothing of them is left when this returns."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda each: each.stop(), containers))
