"""The cell that is measured: the lab's own, with containers that are bare namespaces and rules for others around them.

A bare namespace, attached through the control API by its path, costs what a container's network costs and nothing else.
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from agent.client.connection import Client, RequestBody, attachment_address
from agent.client.location import Location
from host import namespace
from lab import folders, signals
from lab.cell import Cell
from lab.cells import Lab
from lab.segment import OUTSIDE, ip

BASE = Path("/run/cellnet-bench")
CHAIN = 80  # rules for each container around: 250 of them make the 20,000 that the bars speak of
SOURCES = 8
AT_ONCE = 4
UNRELATED = "192.0.2.0/24"


@dataclass(frozen=True, slots=True)
class Container:
    """An attached namespace."""

    name: str
    address: IPv4Address
    pin: Path


@dataclass(frozen=True, slots=True)
class Scene:
    """A cell that runs and is well."""

    cell: Cell

    @property
    def client(self) -> Client:
        """The control API."""
        return Location(root=self.cell.root, config=None).client()

    def namespace(self, name: str) -> Path:
        """A new empty one, pinned below the cell's folder, so that it goes with the cell."""
        folder = self.cell.root / "bare"
        folder.mkdir(exist_ok=True)
        namespace.create(folder / name)
        return folder / name

    def attach(self, app: str, *, netns: Path) -> Container:
        """One request; returns when everything is in place. The attachment is named as the namespace."""
        body: RequestBody = {"app": app, "netns": str(netns), "ports": (8080,)}
        found = self.client.ask("PUT", attachment_address(netns.name), body).fields
        return Container(netns.name, IPv4Address(found.text("address")), Path(found.text("pin")))

    def detach(self, name: str) -> None:
        """One request; returns when everything is undone."""
        self.client.delete(attachment_address(name))

    def container(self, app: str) -> Container:
        """A new namespace, attached under the app's last part."""
        return self.attach(app, netns=self.namespace(app.rpartition("/")[2]))

    def fill(self, count: int, *, first: int = 0) -> None:
        """Containers `crowd-FIRST` to `crowd-(COUNT-1)`, of an app each."""
        paths = [self.namespace(f"crowd-{number}") for number in range(first, count)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda path: self.attach(f"crowd/there/{path.name}", netns=path), paths))

    def surround(self, rules: int, *, before: int = 0, there: int | None = None) -> int:
        """Make it `rules` rules for other apps (there are `before` already): their containers, and a policy file for each.

        Returns how many containers of the crowd there are; `there` is how many there were, if more than `before` needed.
        """
        have, want = containers(before) if there is None else there, containers(rules)
        self.fill(want, first=have)
        for number in range(want):
            self.put_file(f"crowd-{number}.yaml", policies(number, rules=min(rules - number * CHAIN, CHAIN)))
        self.sync()
        return max(have, want)

    def put_file(self, name: str, text: str) -> None:
        """Rename a policy file into place."""
        self.prepare_file(name, text)()

    def prepare_file(self, name: str, text: str) -> "Rename":
        """Everything but the rename."""
        folder = self.cell.policies
        new = folder / f".{name}.new"
        new.write_text(text)
        return Rename(new, folder / name)

    def sync(self) -> None:
        """Return when all files are enforced."""
        self.client.post("/v1/sync", {"timeout": 60.0})


@dataclass(frozen=True, slots=True)
class Rename:
    """The moment a file appears."""

    new: Path
    path: Path

    def __call__(self) -> None:
        os.rename(self.new, self.path)


def containers(rules: int) -> int:
    """How many it takes to have so many rules."""
    return -(-rules // CHAIN)


def policies(number: int, *, rules: int) -> str:
    """A file for one app of the crowd: each policy is one rule in its chain, none can be merged with another."""
    lines = ["policies:"]
    for rule in range(rules):
        source, port = f"crowd/there/caller-{rule % SOURCES}", 10_000 + 2 * rule
        lines.append(f"  - {{name: crowd-{number}-{rule}, from: {source}, to: crowd/there/crowd-{number}, tcp: [{port}]}}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def opened(*overrides: str, looks: float = 0.0, name: str = "") -> Iterator[Scene]:
    """A cell, with these of its settings (`KEY=VALUE`), for as long as the block lasts; removed whatever ends it.

    `looks`: every so many seconds another program does something that makes the agent look at the kernel; 0 for never. Those
    that are open at once need a `name` each.
    """
    with signals.ending_in_order(), folders.short_lived(BASE, name=f"bench-{os.getpid()}{name}") as folder:
        cell = Cell(folder)
        cell.make(overrides)
        cell.start()
        cell.wait_well()
        with _disturbed(cell, every=looks) if looks else contextlib.nullcontext():
            yield Scene(cell)


@contextlib.contextmanager
def _disturbed(cell: Cell, *, every: float) -> Iterator[None]:
    done = threading.Event()

    def disturb() -> None:
        for word in itertools.cycle(("add", "delete")):
            if done.wait(every):
                return
            ip(cell.netns, f"route {word} {UNRELATED} via {OUTSIDE.ip}")

    with ThreadPoolExecutor(1) as pool:
        disturbing = pool.submit(disturb)
        try:
            yield
        finally:
            done.set()
        disturbing.result()


@contextlib.contextmanager
def joined(count: int, *overrides: str) -> Iterator[tuple[Lab, tuple[Scene, ...]]]:
    """Several on one segment with an etcd."""
    with short_lived_folder() as folder:
        lab = Lab.planned(folder, cells=count)
        lab.make(overrides)
        lab.start()
        lab.wait_well()
        yield lab, tuple(map(Scene, lab.cells))


@contextlib.contextmanager
def short_lived_folder() -> Iterator[Path]:
    """For namespaces without a cell: a folder that goes as a cell's does, with all that runs in it and is mounted below."""
    with signals.ending_in_order(), folders.short_lived(BASE, name=f"bench-{os.getpid()}") as folder:
        yield folder
