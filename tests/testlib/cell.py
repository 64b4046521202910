"""A real cell for end-to-end tests: agent, Envoy and containers in namespaces, on the lab's own code.

`cell` is one agent per test module, made tidy after each test (no apps, no policies, its agent running); a test that wants
its own configuration or leaves the cell in ruins takes `make_cell`.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote

import pytest

from agent.client.answer import Fields
from agent.client.connection import Client
from agent.client.location import Location
from lab import folders
from lab.apps import run_app
from lab.cell import Cell, Part
from lab.children import Finished, ended_within
from lab.segment import OUTSIDE
from tests.testlib.instance import Instance, await_serving, serving
from tests.testlib.node import Node
from tests.testlib.patience import PATIENCE, eventually

BASE = Path("/run/cellnet-test")
_numbers = itertools.count()
IDLE = ("sleep", "infinity")


class CellUnderTest:
    """The words of a test about one cell. `host` is its own namespace, `outside` the other end of its uplink."""

    def __init__(self, lab: Cell) -> None:
        self.lab = lab
        self.host = Node(lab.netns, address=lab.address.ip)
        self.outside = Node(lab.outside, address=OUTSIDE.ip)
        self._instances: list[Instance] = []

    # apps

    def run_app(
        self, app: str, *command: str, name: str | None = None, port: int | Sequence[int] = (), server: bool = False,
        routes: Sequence[str] = (), options: Sequence[str] = (),
    ) -> Instance:  # fmt: skip
        """`cellnet run`, attached when this returns. `port`: what is declared by --port; `name`: else the app's last part.

        `server=True` answers on these ports (8080 if none) over TCP and UDP, see echo_app.py; otherwise it idles, unless a
        `command` is given.
        """
        ports = (port,) if isinstance(port, int) else tuple(port)
        served = ports or (8080,)
        words = [*(f"--port={each}" for each in ports), *(f"--route={each}" for each in routes), *options]
        run = command or (serving(served) if server else IDLE)
        made = Instance(run_app(self.lab, app, *run, name=name or app.rpartition("/")[2], options=words))
        self._instances.append(made)
        if server:
            await_serving(made, served[-1])
        return made

    def containers(self, *apps: str) -> tuple[Instance, ...]:
        """One server on 8080 for each app."""
        return tuple(self.run_app(app, port=8080, server=True) for app in apps)

    # policies

    def policy_file(self, name: str, text: str, *, sync: bool = True) -> Path:
        """Rename a file into policies.d; enforced when this returns, unless `sync` is off."""
        path, new = self.lab.policies / name, self.lab.policies / f".{name}.new"
        new.write_text(text)
        new.rename(path)
        if sync:
            self.sync()
        return path

    def remove_policy_file(self, name: str, *, sync: bool = True) -> None:
        """Take a file out of policies.d; cut when this returns, unless `sync` is off."""
        (self.lab.policies / name).unlink()
        if sync:
            self.sync()

    def allow(self, source: str, to: str, *ports: str) -> None:
        """`cellnet policy allow`, enforced when this returns."""
        self.cellnet("policy", "allow", source, to, *ports)
        self.sync()

    def sync(self) -> None:
        """`cellnet sync`, without starting a process for it."""
        done = self.client.post("/v1/sync", {"timeout": 20.0})
        assert done.flag("ok"), done.value

    # the command line

    def cellnet(self, *words: str, code: int | None = 0) -> Finished:
        """Run `cellnet WORDS` in the cell; `code` is the exit code that is expected, None for any."""
        done = self.lab.cellnet(*words)
        assert code is None or done.code == code, f"cellnet {' '.join(words)} ended with {done.code}: {done.out}{done.err}"
        return done

    def rules(self) -> list[str]:
        """The rules of iptables-nft, without counters."""
        lines = self.host.run("iptables-nft-save").splitlines()
        return [line.split(" [")[0] for line in lines if not line.startswith("#")]

    # the agent

    @property
    def client(self) -> Client:
        """Its control API."""
        return Location(root=self.lab.root, config=None).client()

    def status(self) -> Fields:
        """`GET /v1/status`."""
        return self.lab.status()

    def attachments(self) -> list[str]:
        """The names in `cellnet ps`."""
        return [each.text("name") for each in self.client.get("/v1/attachments").each()]

    @property
    def agent_pid(self) -> int:
        return self.pid("agent")

    @property
    def envoy_pid(self) -> int:
        return self.pid("envoy")

    def pid(self, part: str) -> int:
        """The process of "agent", "envoy" or "up"."""
        found = self.lab.part(Part(part))
        assert found is not None, f"the {part} does not run:\n{self.lab.last_words()}"
        return found.pid

    def kill(self, part: str, *, again: bool = False) -> None:
        """kill -9 "agent", "envoy" or "up". It stays dead until `start`; with `again` the supervisor may start it again."""
        self.lab.kill(Part(part), again=again)

    def stop(self) -> None:
        """SIGTERM to `cellnet up`: all of it ends in order."""
        self.lab.stop()

    def start(self, *, well: bool = True) -> None:
        """Start what is dead; returns when the status is well, unless `well` is off."""
        self.lab.start()
        if well:
            self.lab.wait_well()

    def wait_well(self) -> Fields:
        """Wait until the status is well, and return it."""
        return self.lab.wait_well()

    @property
    def log(self) -> str:
        """What agent, Envoy and `up` have written."""
        return self.lab.log.read_text(errors="replace")

    def close(self) -> None:
        """Close the test's own sockets, wherever they are."""
        for each in (*self._instances, self.host, self.outside):
            each.close()

    def tidy(self) -> None:
        """As it was at first: everything runs, no apps, no policies. Raises if that cannot be reached."""
        self.close()
        self.lab.start()
        self.forget_files()
        self.lab.wait_well()
        for each in self._instances:
            each.runner.terminate()
        for each in self._instances:
            assert ended_within(each.runner, PATIENCE), f"{each.name} does not end"
        self._instances.clear()
        self.forget_policies()
        self.forget_routes()
        self.forget_reservations()
        self.sync()
        eventually(lambda: self.attachments() == [])  # what was killed is swept within a second

    def forget_files(self) -> None:
        """Remove all policy files."""
        for path in self.lab.policies.iterdir():
            path.unlink()

    def forget_routes(self) -> None:
        """Free all routes."""
        for route in self.client.get("/v1/routes").each():
            self.client.delete(f"/v1/routes/{route.text('host')}")

    def forget_reservations(self) -> None:
        """Release all."""
        for each in self.client.get("/v1/reservations").each():
            self.client.delete(f"/v1/reservations/{each.text('name')}")

    def forget_policies(self) -> None:
        """Delete all policies of the store."""
        for policy in self.client.get("/v1/policies").each():
            if policy.at("origin").at("line").missing:
                self.client.delete(f"/v1/policies/{quote(policy.text('name'), safe='')}")


def _started(stack: ExitStack, overrides: Sequence[str] = (), kind: type[Cell] = Cell) -> CellUnderTest:
    lab = kind(stack.enter_context(folders.short_lived(BASE, name=f"{os.getpid()}-{next(_numbers)}")))
    stack.callback(lambda: print(lab.log.read_text(errors="replace")[-4_000:]))  # pytest shows it for a test that failed
    lab.make(overrides)
    lab.start()
    lab.wait_well()
    made = CellUnderTest(lab)
    stack.callback(made.close)
    return made


@contextmanager
def running_cell(*overrides: str, kind: type[Cell] = Cell) -> Iterator[CellUnderTest]:
    """A cell for as long as it is needed, for fixtures of other scopes."""
    with ExitStack() as stack:
        yield _started(stack, overrides, kind)


class Tidied(Protocol):
    """What can be made as it was at first."""

    def tidy(self) -> None: ...


Scene = TypeVar("Scene", bound=Tidied)


class Kept(Generic[Scene]):
    """A cell, or several, for all tests of a module; a new one if the last test has ruined it."""

    def __init__(self, start: Callable[[ExitStack], Scene]) -> None:
        self._start = start
        self._stack = ExitStack()
        self._scene: Scene | None = None

    def get(self) -> Scene:
        if self._scene is None:
            self._stack.close()  # what is left of one that did not become well
            self._scene = self._start(self._stack)
        return self._scene

    def tidy(self) -> None:
        if self._scene is not None:
            try:
                self._scene.tidy()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        self._scene = None
        self._stack.close()


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    """KEY=VALUE for a module's `cell`; a module that wants others defines a fixture of this name."""
    return ()


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    """What runs in a module's `cell`; a module that wants another defines a fixture of this name."""
    return Cell


@pytest.fixture(scope="module")
def module_cell(cell_overrides: Sequence[str], cell_kind: type[Cell]) -> Iterator[Kept[CellUnderTest]]:
    """Behind `cell`."""
    kept = Kept(lambda stack: _started(stack, cell_overrides, cell_kind))
    yield kept
    kept.close()


@pytest.fixture
def cell(module_cell: Kept[CellUnderTest]) -> Iterator[CellUnderTest]:
    """A cell that runs and is well, with no apps and no policies."""
    yield module_cell.get()
    module_cell.tidy()


@pytest.fixture
def make_cell() -> Iterator[Callable[..., CellUnderTest]]:
    """`make_cell("tls.leaf_lifetime=10s")` is a cell of the test's own, gone after it. `kind=` chooses what runs in it."""
    with ExitStack() as stack:
        yield lambda *overrides, kind=Cell: _started(stack, overrides, kind)
