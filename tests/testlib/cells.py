"""Real cells on one segment with a real etcd, for tests of what they do together.

`cells` is three of them per test module (`cells[1]` to `cells[3]`), made tidy after each test; a test that wants another
number, its own configuration or leaves them in ruins takes `make_cells`. Each is a CellUnderTest, with all of its words.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from lab import folders
from lab.cell import Cell
from lab.cells import Lab
from lab.etcd import Etcd
from tests.testlib.cell import BASE, CellUnderTest, Kept

COUNT = 3
_numbers = itertools.count()


class CellsUnderTest:
    """The words of a test about several cells, numbered from 1."""

    def __init__(self, lab: Lab) -> None:
        assert lab.segment is not None
        self.lab, self.segment = lab, lab.segment
        self.all = tuple(CellUnderTest(each) for each in lab.cells)
        self.etcd: Etcd = self.segment.etcd
        """`kill`, `freeze`, and `start` after either."""

    def __getitem__(self, number: int) -> CellUnderTest:
        return self.all[number - 1]

    def __iter__(self) -> Iterator[CellUnderTest]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def partition(self, number: int) -> None:
        """Pull a cell's cable: it reaches neither the others nor etcd."""
        self[number].lab.unplug()

    def heal(self, number: int) -> None:
        """Put it in again."""
        self[number].lab.plug()

    def allow(self, source: str, to: str, *ports: str, at: int = 1) -> None:
        """`cellnet policy allow` on one cell, enforced on all when this returns."""
        self[at].cellnet("policy", "allow", source, to, *ports)
        self.sync()

    def sync(self) -> None:
        """`cellnet sync` on all."""
        for each in self.all:
            each.sync()

    def wait_well(self) -> None:
        """Wait until every cell's status is well."""
        self.lab.wait_well()

    def close(self) -> None:
        """Close the test's own sockets, wherever they are."""
        for each in self.all:
            each.close()

    def tidy(self) -> None:
        """As it was at first: everything runs and is plugged in, no apps, no policies. Raises if that cannot be reached."""
        self.close()
        for each in self.all:
            each.forget_files()
            each.lab.plug()
            each.lab.start()
        self.etcd.start()
        self.wait_well()
        self[1].forget_policies()
        self[1].forget_routes()
        self.sync()  # so that no other cell tries to delete the same
        for each in self.all:
            each.tidy()


def _print_log(cell: Cell) -> None:
    """pytest shows it for a test that failed."""
    print(f"cell {cell.number}:\n{cell.log.read_text(errors='replace')[-4_000:]}")


def _started(stack: ExitStack, count: int, overrides: Sequence[str], kind: type[Cell] = Cell) -> CellsUnderTest:
    folder = stack.enter_context(folders.short_lived(BASE, name=f"{os.getpid()}-c{next(_numbers)}"))
    lab = Lab.planned(folder, cells=count)
    lab = replace(lab, cells=tuple(kind(each.root, each.number, each.segment) for each in lab.cells))
    for each in lab.cells:
        stack.callback(_print_log, each)
    lab.make(overrides)
    lab.start()
    lab.wait_well()
    made = CellsUnderTest(lab)
    stack.callback(made.close)
    return made


@contextmanager
def running_cells(count: int, *overrides: str, kind: type[Cell] = Cell) -> Iterator[CellsUnderTest]:
    """Cells for as long as they are needed, for fixtures of other scopes."""
    with ExitStack() as stack:
        yield _started(stack, count, overrides, kind)


@pytest.fixture(scope="module")
def module_cells(cell_overrides: Sequence[str], cell_kind: type[Cell]) -> Iterator[Kept[CellsUnderTest]]:
    """Behind `cells`."""
    kept = Kept(lambda stack: _started(stack, COUNT, cell_overrides, cell_kind))
    yield kept
    kept.close()


@pytest.fixture
def cells(module_cells: Kept[CellsUnderTest]) -> Iterator[CellsUnderTest]:
    """Three cells that run and are well, with no apps and no policies. `cell_overrides` has the KEY=VALUE of all,
    `cell_kind` what each of them is."""
    yield module_cells.get()
    module_cells.tidy()


@pytest.fixture
def make_cells() -> Iterator[Callable[..., CellsUnderTest]]:
    """`make_cells(2, "tls.leaf_lifetime=10s")`: cells of the test's own, gone after it. `kind=` chooses what each is."""
    with ExitStack() as stack:
        yield lambda count, *overrides, kind=Cell: _started(stack, count, overrides, kind)
