"""What ails the host is told: disks that take nothing, starts that fail, an Envoy that does not answer, a lost log."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import last_start
from agent.client.connection import Client
from agent.daemon.disk_space import LITTLE, DiskSpace
from agent.envoy.liveness import Liveness
from agent.errors import Unavailable
from agent.last_start import Failure
from tests.testlib.patience import eventually_async


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=20", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_with_room_is_no_problem_and_a_folder_to_come_neither(disk: Path) -> None:
    assert list(DiskSpace(disk, disk / "later").problems()) == []


def test_each_way_in_which_a_disk_takes_nothing_has_its_words_once(disk: Path) -> None:
    (disk / "below").mkdir()

    def told() -> str:
        (problem,) = DiskSpace(disk, disk / "below").problems()
        return problem.what

    (disk / "filler").write_bytes(bytes((4 << 20) - LITTLE + 4096))
    assert "is full" in told()
    (disk / "filler").unlink()
    with contextlib.suppress(OSError):
        for number in range(40):
            (disk / str(number)).touch()
    assert "no room for another file" in told()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert "is read-only" in told()


def test_who_asks_an_agent_that_could_not_start_is_told_why_until_it_serves(tmp_path: Path) -> None:
    client = Client(tmp_path / "run" / "agent.sock")
    (tmp_path / "run").mkdir()
    last_start.note(tmp_path / "run", Failure("the file is damaged", "move it away"))
    with pytest.raises(Unavailable, match=r"its last start failed: the file is damaged") as refused:
        client.get("/v1/status")
    assert refused.value.hint == "move it away"
    assert os.listdir(tmp_path / "run") == [last_start.NOTE]
    last_start.retract(tmp_path / "run")
    with pytest.raises(Unavailable, match=r"no agent answers at [^ ]*$"):
        client.get("/v1/status")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"what": "x"}'])
def test_a_note_that_makes_no_sense_counts_for_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / last_start.NOTE).write_text(content)
    assert last_start.noted(tmp_path) is None


def test_a_note_needs_no_folder_that_takes_it(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    last_start.note(disk / "run", Failure("w", "h"))
    last_start.retract(disk / "run")


async def test_an_envoy_is_hung_from_its_first_missing_answer_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.envoy.liveness.EVERY", 0.001)
    now, connected, answers = 100.0, True, False

    def ask() -> None:
        if not answers:
            raise Unavailable("no answer")

    pulse = Liveness(ask, connected=lambda: connected, clock=lambda: now)
    following = asyncio.create_task(pulse.run())
    try:
        await eventually_async(lambda: pulse.problem is not None)
        now = 112.0
        assert "has not answered for 12 s" in str(pulse.problem)
        connected = False
        assert pulse.problem is None, "one that is not connected is told as that"
        connected, answers = True, True
        await eventually_async(lambda: pulse.problem is None)
    finally:
        following.cancel()


SCRIPT = """
import sys
from agent import log
log.configure()
for number in range(2000):
    log.get("test").error("something", number=number)
print("goes on")
"""


@pytest.mark.parametrize("sink", ["a full disk", "a reader that has gone"])
def test_a_log_that_takes_nothing_ends_nobody(disk: Path, sink: str) -> None:
    if sink == "a full disk":
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        descriptor = os.open(disk / "log", os.O_WRONLY | os.O_CREAT)
    else:
        reading, descriptor = os.pipe()
        os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=descriptor, check=False)
    finally:
        os.close(descriptor)
    assert (done.returncode, done.stdout) == (0, b"goes on\n")


def test_a_log_that_takes_everything_has_a_line_of_json_for_each_event() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    assert [json.loads(line)["number"] for line in done.stderr.splitlines()] == list(range(2000))
