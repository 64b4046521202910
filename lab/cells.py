"""Several cells on one segment, with an etcd between them; or one cell that is alone with its SQLite."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.client.answer import Fields
from agent.client.location import Location
from agent.errors import HostRefused, InvalidInput, Unavailable
from lab.cell import POLL_SECONDS, Cell
from lab.segment import Segment

SEGMENT = "segment"
READY_SECONDS = 30.0
READY_SECONDS_MORE = 4.0  # for each cell: they share the machine's processors while they start


@dataclass(frozen=True, slots=True)
class Lab:
    """Cells 1 to N, each below a folder of its own, whose name is its number; the folder of their segment is beside these."""

    cells: tuple[Cell, ...]
    segment: Segment | None = None

    @classmethod
    def planned(cls, root: Path, *, cells: int) -> "Lab":
        """That many cells with an etcd below `root`."""
        segment = Segment(root / SEGMENT)
        return cls(tuple(Cell(root / str(number), number, segment) for number in range(1, cells + 1)), segment)

    @classmethod
    def alone(cls, root: Path) -> "Lab":
        """One cell below `root`, with its SQLite."""
        return cls((Cell(root / "1"),))

    @classmethod
    def standing(cls, root: Path) -> "Lab":
        """What is there below `root`, whatever state it is in."""
        segment = Segment(root / SEGMENT) if (root / SEGMENT).exists() else None
        found = sorted(int(path.name) for path in root.iterdir() if is_part_of_a_lab(path) and path.name != SEGMENT)
        return cls(tuple(Cell(root / str(number), number, segment) for number in found), segment)

    @property
    def folders(self) -> tuple[Path, ...]:
        """All that there is of it on the disk."""
        return *(each.root for each in self.cells), *([self.segment.root] if self.segment else [])

    def make(self, overrides: Sequence[str] = ()) -> None:
        """Namespaces, links and configuration, the same for all cells; only etcd runs. Folders may be there, empty.

        Raises InvalidInput for overrides that agent.yaml cannot hold.
        """
        if self.segment and any(each.partition("=")[0].strip() == "cell" for each in overrides):
            raise InvalidInput("every cell of a lab has a name of its own", hint="leave 'cell' out")
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)  # not as our umask has it: Envoy's user must reach its sockets
        if self.segment:
            self.segment.make()
            self.segment.etcd.begin()
            overrides = [f"store.etcd.endpoints=['{self.segment.etcd.url}']", *overrides]
        for cell in self.cells:
            cell.make(overrides)
        if self.segment:
            _issue(self.cells, folder=self.segment.root / "ca")

    def start(self) -> None:
        """Start all cells at once."""
        if self.segment:
            self.segment.etcd.await_well()
        for cell in self.cells:
            cell.start()

    def wait_well(self) -> tuple[Fields, ...]:
        """Wait until every cell's status is well and all know each other. Raises Unavailable, with the end of a log."""
        until = time.monotonic() + READY_SECONDS + READY_SECONDS_MORE * len(self.cells)
        while True:  # a cell that was well may just have learnt of one that is not
            for cell in self.cells:
                cell.wait_well(seconds=max(until - time.monotonic(), 1.0))
            found = tuple(cell.status() for cell in self.cells)
            if all(self._is_whole(each) for each in found):
                return found
            if time.monotonic() > until:
                raise Unavailable("the cells do not all see each other", hint="cellnet lab exec 1 -- cellnet status")
            time.sleep(POLL_SECONDS)

    def _is_whole(self, status: Fields) -> bool:
        return status.flag("ok") and (self.segment is None or len(list(status.at("peers").each())) == len(self.cells) - 1)


def is_part_of_a_lab(folder: Path) -> bool:
    """Whether a folder's name is a cell's number, or the segment's."""
    return folder.name == SEGMENT or folder.name.isdecimal()


def _issue(cells: tuple[Cell, ...], *, folder: Path) -> None:
    """Make a root in `folder`, which signs each cell's certificate. Raises HostRefused."""
    from ca.disk import init_root  # `cellnet --help` imports this file, and cryptography loads slowly
    from ca.errors import CaRefused
    from ca.issuing import issue

    now = datetime.now(UTC)
    configs = [Location(root=each.root, config=None).load() for each in cells]
    try:
        init_root(folder, trust_domain=configs[0].trust_domain, now=now)
        for config in configs:
            config.paths.ca.parent.mkdir(parents=True, exist_ok=True)
            issue(folder, cell=config.cell, out=config.paths.ca, now=now)
    except CaRefused as error:
        raise HostRefused(error.what, hint=error.hint) from error
