"""What is left after kill -9 at any moment, and after two processes at once."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from agent.store.database import Database
from agent.store.ledger import Ledger
from agent.store.sqlite import SqliteStore
from tests.testlib.samples import OWNER, request
from tests.testlib.stores.ledger_steps import SUBNET, contents, step

ROOT = Path(__file__).parents[2]


def start(path: Path, seed: int, *word: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.testlib.stores.ledger_steps", str(path), str(seed), *word]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def killed_after(path: Path, *, seed: int, lines: int) -> int:
    """How many steps were certainly done when the process was killed, at some moment of the next ones."""
    with start(path, seed) as worker:
        assert worker.stdout is not None
        for _ in range(lines):
            assert worker.stdout.readline()
        worker.kill()
        return lines + len(worker.stdout.readlines()) - 1


@pytest.mark.parametrize("seed", range(8))
def test_kill_9_leaves_every_finished_step_and_at_most_one_more(tmp_path: Path, seed: int) -> None:
    done = killed_after(tmp_path / "killed" / "cellnet.db", seed=seed, lines=Random(seed).randrange(1, 400))
    left = contents(Database(tmp_path / "killed" / "cellnet.db"))
    replayed = Database(tmp_path / "replayed" / "cellnet.db")
    Ledger(replayed).adopt_subnet(SUBNET)
    random = Random(seed)
    for number in range(done):
        step(replayed, random, number)
    if left != contents(replayed):
        step(replayed, random, done)
        assert left == contents(replayed)


def test_a_power_loss_costs_the_last_entries_at_most(path: Path, ledger: Ledger, tmp_path: Path) -> None:
    """Whatever part of the log had reached the disk: what is found is what was there after some earlier step."""
    for number in range(30):
        ledger.begin(request(f"n{number:02}"), owner=OWNER)
    log = path.with_name("cellnet.db-wal").read_bytes()
    found = list[int]()
    for part, length in enumerate([*range(0, len(log), 7919), len(log)]):
        after = tmp_path / f"after{part}" / path.name
        after.parent.mkdir(mode=0o700)
        after.write_bytes(path.read_bytes())
        after.with_name("cellnet.db-wal").write_bytes(log[:length])
        names = [held.name for held in Ledger(Database(after)).all()]
        assert names == [f"n{number:02}" for number in range(len(names))]
        found.append(len(names))
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 30)


def test_a_killed_process_leaves_no_lock_behind(path: Path) -> None:
    killed_after(path, seed=1, lines=20)
    ledger = Ledger(Database(path, patience=0.05))
    for held in ledger.all():
        ledger.begin_detach(held.name)
        ledger.finish_detach(held.name, now=1.0)
    assert ledger.all() == ()


async def test_two_processes_at_once_never_give_anything_twice(path: Path) -> None:
    workers = [start(path, 0, word) for word in ("x", "y", "z")]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    database = Database(path)
    held = Ledger(database).all()
    assert len(held) == 3 * 26
    assert len({each.address for each in held}) == len(held)
    assert len({each.instance for each in held}) == len(held)
    tags = await SqliteStore(database).tags()
    assert len(set(tags.values())) == len(tags) == 3 * 40 + 1
    assert [file.name for file in path.parent.glob(".*")] == []


async def test_what_another_process_writes_is_seen(path: Path, database: Database) -> None:
    ledger, store = Ledger(database), SqliteStore(database)
    assert ledger.all() == ()
    with start(path, 0, "x") as worker:
        assert worker.wait(timeout=60) == 0
    assert len(ledger.all()) == 26
    assert len(await store.tags()) == 41
