"""The history survives what may happen to its file and its agent; what is lost is counted and told."""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.insight.history.history import A_MINUTE, KEPT, UNFINISHED, History
from agent.insight.history.on_disk import LONGEST, Caller, HistoryArea, HistoryEntry, HistoryFile
from tests.testlib.patience import eventually_async

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
POLICIES, AGENT, REPAIRS = HistoryArea.POLICIES, HistoryArea.AGENT, HistoryArea.REPAIRS


class FailingFile(HistoryFile):
    """A disk that takes nothing while it is `full`."""

    full = False

    def append(self, entries: Iterable[HistoryEntry]) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().append(entries)


class Agents:
    """One agent after the other, with one file and one clock."""

    def __init__(self, folder: Path, *, most: int = 1 << 20) -> None:
        self.seconds = 0.0
        self.path = folder / "events" / "events.jsonl"
        self.file = FailingFile(self.path, most=most)

    def start(self) -> History:
        return History(self.file, now=lambda: NOON + timedelta(seconds=self.seconds), elapsed=lambda: self.seconds, batch=0.001)


async def told(history: History, area: HistoryArea | None = None, *, most: int = 10_000) -> list[str]:
    return [each.what for each in (await history.since(None, area=area, most=most)).entries]


class WaitingFile(HistoryFile):
    """A disk that answers once it is `free`."""

    def __init__(self, newest: Path) -> None:
        super().__init__(newest)
        self.free = threading.Event()

    def lines(self) -> Iterator[bytes]:
        assert self.free.wait(60)
        return super().lines()


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    return Agents(tmp_path)


async def test_what_is_told_is_found_by_moment_and_area_before_it_is_written_and_after(agents: Agents) -> None:
    history = agents.start()
    history.add(POLICIES, "first", by=Caller(0, 7, "cellnet"))
    agents.seconds = 100
    history.add(REPAIRS, "second\n\x1b[31m")
    for _ in range(2):
        assert await told(history) == ["first", "second??[31m"]
        assert await told(history, POLICIES) == ["first"]
        late = await history.since(NOON + timedelta(seconds=1), area=None, most=10)
        assert [each.what for each in late.entries] == ["second??[31m"]
        newest = await history.since(None, area=None, most=1)
        assert ([each.what for each in newest.entries], newest.more) == (["second??[31m"], True)
        await asyncio.to_thread(history._write)
    assert (await history.since(None, area=POLICIES, most=1)).entries[0].by == Caller(0, 7, "cellnet")
    assert agents.path.stat().st_mode & 0o777 == 0o600
    assert agents.path.parent.stat().st_mode & 0o777 == 0o700


async def test_an_agent_that_was_killed_is_told_apart_from_one_that_stopped(agents: Agents) -> None:
    killed = agents.start()
    await killed.begin("started")
    await asyncio.to_thread(killed._write)
    second = agents.start()
    await second.begin("started")
    second.end()
    third = agents.start()
    await third.begin("started")
    assert await told(third) == ["started", "started" + UNFINISHED, "the agent stopped", "started"]


async def test_a_line_with_what_no_terminal_may_be_sent_is_no_entry(agents: Agents) -> None:
    agents.path.parent.mkdir()
    texts = ['"\\u001b[2J", null', '"\\ud800", null', '"fine", [0, 1, "\\u001b[2J"]', '"fine", [0, 1, "cellnet"]']
    agents.path.write_text("".join(f'["2030-01-01T12:00:00Z", "agent", {each}]\n' for each in texts))
    found = await agents.start().since(None, area=None, most=10)
    assert ([each.by for each in found.entries], found.damaged) == ([Caller(0, 1, "cellnet")], 3)


async def test_an_agent_that_never_began_leaves_no_stop(agents: Agents) -> None:
    agents.start().end()
    assert not agents.path.exists()


async def test_a_torn_line_and_bytes_of_another_program_cost_no_other_entry(agents: Agents) -> None:
    history = agents.start()
    history.add(AGENT, "before")
    history._write()
    with agents.path.open("ab") as file:
        file.write(b"\xff\x00 [[[[ \n" + b"[" * 100_000 + b"\n{}\n[1]\n" + b'["2030-01-01T12:00:00Z", "agent", "to')
    history.add(AGENT, "after")
    history._write()
    found = await history.since(None, area=None, most=10)
    assert ([each.what for each in found.entries], found.damaged) == (["before", "after"], 5)


@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
async def test_what_is_no_file_at_its_path_is_a_problem_and_stops_nothing(agents: Agents, kind: str, tmp_path: Path) -> None:
    agents.path.parent.mkdir()
    other = tmp_path / "other"
    other.touch()
    match kind:
        case "folder":
            agents.path.mkdir()
        case "fifo":
            os.mkfifo(agents.path)
        case _:
            agents.path.symlink_to(other)
    history = agents.start()
    task = asyncio.create_task(history.run())
    history.add(AGENT, "kept in memory")
    await eventually_async(lambda: any(history.problems()))
    assert other.read_bytes() == b""
    task.cancel()


async def test_a_flood_of_repairs_drives_out_no_word_of_what_operators_changed(tmp_path: Path) -> None:
    agents = Agents(tmp_path, most=8_000)
    history = agents.start()
    for number in range(10):
        history.add(POLICIES, f"change {number}", by=Caller(1000, 7, "cellnet"))
    for number in range(2_000):
        agents.seconds += 2
        history.add(REPAIRS, f"repair {number} {'x' * 200}")
        history._write()
    assert await told(history, POLICIES) == [f"change {number}" for number in range(10)]
    assert (await told(history))[10:][-1].startswith("repair 1999")
    found = await history.since(None, area=None, most=10_000)
    assert (found.damaged, found.entries[0].by) == (0, Caller(1000, 7, "cellnet"))
    assert [each.at for each in found.entries] == sorted(each.at for each in found.entries)
    assert sum(each.stat().st_size for each in agents.path.parent.iterdir()) <= 18_000


async def test_of_what_is_spared_the_newest_stays(tmp_path: Path) -> None:
    agents = Agents(tmp_path, most=8_000)
    history = agents.start()
    for number in range(1_000):
        agents.seconds += 2
        history.add(POLICIES, f"change {number} {'x' * 200}")
        history._write()
    found = await told(history, POLICIES)
    assert [each.split()[1] for each in found] == [str(each) for each in range(1_000 - len(found), 1_000)]
    assert sum(each.stat().st_size for each in agents.path.parent.iterdir()) <= 18_000


async def test_what_another_program_puts_in_the_place_of_a_file_keeps_nothing_from_being_written(tmp_path: Path) -> None:
    agents = Agents(tmp_path, most=2_000)
    history = agents.start()
    history.add(REPAIRS, "first")
    history._write()
    agents.path.with_suffix(".old").symlink_to("/dev/zero")
    for number in range(50):
        agents.seconds += 2
        history.add(REPAIRS, f"repair {number} {'x' * 200}")
        history._write()
    assert (await told(history))[-1].startswith("repair 49")


async def test_the_two_files_never_hold_more_than_their_bound_and_the_newest_stay(tmp_path: Path) -> None:
    agents = Agents(tmp_path, most=8_000)
    history = agents.start()
    for number in range(300):
        agents.seconds += 60
        history.add(AGENT, f"{number} {'x' * 2 * LONGEST}")
        history._write()
        assert sum(each.stat().st_size for each in agents.path.parent.iterdir()) <= 18_000
    found = await told(history)
    assert [each.partition(" ")[0] for each in found] == [str(each) for each in range(300 - len(found), 300)]
    assert len(found) >= 8


async def test_a_flood_of_one_area_drives_out_no_other_and_is_counted(agents: Agents) -> None:
    history = agents.start()
    history.add(POLICIES, "a change")
    for number in range(A_MINUTE + 40):
        history.add(REPAIRS, f"repair {number}")
    assert len(await told(history, REPAIRS)) == A_MINUTE
    assert history.lost == 40
    agents.seconds = 61
    history.add(POLICIES, "another")
    assert (await told(history, REPAIRS))[-1].startswith("40 more events came than are kept")
    assert await told(history, POLICIES) == ["a change", "another"]


async def test_a_full_disk_loses_only_what_is_too_much_for_memory_and_says_so(agents: Agents) -> None:
    history = agents.start()
    agents.file.full = True
    task = asyncio.create_task(history.run())
    for number in range(KEPT + 25):
        agents.seconds += 2
        history.add(AGENT, str(number))
    await eventually_async(lambda: any(history.problems()))
    (problem,) = history.problems()
    assert "No space left" in problem.what
    assert await told(history) == [str(number) for number in range(KEPT)]
    agents.file.full = False
    agents.seconds += 61
    await eventually_async(lambda: not any(history.problems()))
    await eventually_async(lambda: b"25 more events" in agents.path.read_bytes())
    assert (await told(agents.start()))[:KEPT] == [str(number) for number in range(KEPT)]
    task.cancel()


async def test_a_write_that_fails_in_the_middle_is_taken_back(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    history = agents.start()
    history.add(AGENT, "first")
    history._write()
    before, write = agents.path.read_bytes(), os.write

    def torn(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:-10])

    monkeypatch.setattr(os, "write", torn)
    history.add(AGENT, "second")
    with pytest.raises(OSError, match="No space"):
        history._write()
    assert agents.path.read_bytes() == before
    monkeypatch.undo()
    history._write()
    assert await told(history) == ["first", "second"]


async def test_what_is_being_written_when_the_agent_stops_is_there_once(agents: Agents) -> None:
    history, writes = agents.start(), threading.Event()
    append = agents.file.append

    def slow(entries: Iterable[HistoryEntry]) -> None:
        writes.set()
        time.sleep(0.1)
        append(entries)

    agents.file.append = slow  # type: ignore[method-assign]
    await history.begin("started")
    task = asyncio.create_task(history.run())
    await asyncio.to_thread(writes.wait)
    task.cancel()
    history.end()
    assert await told(agents.start()) == ["started", "the agent stopped"]


async def test_many_who_read_take_no_threads_from_others(tmp_path: Path) -> None:
    file = WaitingFile(tmp_path / "events.jsonl")
    history = History(file, now=lambda: NOON, elapsed=lambda: 0.0)
    reading = [asyncio.create_task(history.since(None, area=None, most=1)) for _ in range(40)]
    try:
        await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "a thread"), 20) == "a thread"
    finally:
        file.free.set()
    assert {each.entries for each in await asyncio.gather(*reading)} == {()}
