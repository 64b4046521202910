"""kill -9 of `backup` and `restore` before any of their effects."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config.file import pending_file
from tests.backup.conftest import MakeHome
from tests.testlib.cell_on_disk import CellOnDisk
from tests.testlib.crashes.fork_server import ForkServer, RunCommand, fork_server

LOADS = (
    "agent.cli.main agent.cli.this_cell.backup agent.backup.capture"
    " agent.backup.admission agent.backup.replacement agent.daemon.main"
)


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with fork_server(loads=LOADS) as made:
        yield made


def killed(forks: ForkServer, cell: CellOnDisk, *words: str, before: int) -> str | None:
    """The effect that it was killed before; None where it came to its end."""
    process = forks.fork(RunCommand(cell.root, cell.host.path, cell.root / "log", words))
    with contextlib.closing(process):
        process.go(killed_before=before, with_tools=True)
        assert process.result() in (0, None)
        return process.effects.stopped_before


def test_a_restore_that_is_killed_has_changed_nothing_or_is_finished_by_what_comes_next(
    cell: CellOnDisk, backup: Path, forks: ForkServer
) -> None:
    wanted = cell.files()
    cell.cellnet("backup", str(backup))
    (cell.policies / "later.yaml").write_text("policies: []\n")
    (cell.policies / "shop.yaml").unlink()
    cell.config.write_text("cell: cell-1\n")
    cell.use_tags("later")
    later, effects, decided = cell.files(), list[str](), 0
    for number in (*range(1, 26, 8), *range(26, 400, 2)):  # before that, SQLite makes room to read
        victim = cell.copy(f"victim{number}")
        stopped = killed(forks, victim, "restore", str(backup), before=number)
        if stopped is None:
            break
        effects.append(stopped)
        if pending_file(victim.config).exists():
            decided += 1
            victim.cellnet("backup", str(backup.with_name("another.backup")))  # ends it
            assert victim.files() == wanted, effects
            assert not pending_file(victim.config).exists()
        else:
            assert victim.files() in (later, wanted), effects
    assert victim.files() == wanted
    assert len(effects) > 15, "it would come to its end without an effect"
    assert 10 < decided < len(effects)


def test_a_backup_that_is_killed_leaves_the_one_before(
    cell: CellOnDisk, home: MakeHome, backup: Path, forks: ForkServer
) -> None:
    cell.cellnet("backup", str(backup))
    before = backup.read_bytes()
    for number in range(1, 100):
        stopped = killed(forks, cell, "backup", str(backup), before=number)
        modes = {each.stat().st_mode & 0o777 for each in backup.parent.glob("*.backup*")}
        assert modes == {0o600}
        if stopped is None:
            break
        assert backup.read_bytes() == before or stopped.startswith("rename") is False
    assert number > 4
    assert backup.read_bytes() != before
    home("two").cellnet("restore", str(backup))
