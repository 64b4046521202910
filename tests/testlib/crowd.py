"""Many containers at once: bare namespaces, attached and detached by many clients of the control API side by side."""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from agent.client.connection import attachment_address
from host import namespace
from tests.testlib.attached import Attached
from tests.testlib.cell import CellUnderTest

CLIENTS = 20


class Crowd:
    """`count` namespaces that go with the cell; the apps of their attachments are `ORG/there/crowd-NUMBER`."""

    def __init__(self, cell: CellUnderTest, count: int, *, org: str = "crowd") -> None:
        self._cell, self._org = cell, org
        self._rounds = itertools.count()
        folder = cell.lab.root / "crowd"
        folder.mkdir()
        self.paths = [folder / str(number) for number in range(count)]
        for path in self.paths:
            namespace.create(path)

    def app(self, number: int) -> str:
        """Of one of them."""
        return f"{self._org}/there/crowd-{number}"

    def attach(self) -> list[Attached]:
        """All of them, under names that were never used before; in place when this returns."""
        round_ = next(self._rounds)
        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(lambda number: self._attach(number, f"crowd-{round_}-{number}"), range(len(self.paths))))

    def _attach(self, number: int, name: str) -> Attached:
        path = self.paths[number]
        body = {"app": self.app(number), "netns": str(path), "ports": (8080,)}
        return Attached(self._cell, self._cell.client.ask("PUT", attachment_address(name), body).fields, path=path)


def detach(attached: Sequence[Attached]) -> None:
    """Nothing of them is left when this returns."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda each: each.stop(), attached))
