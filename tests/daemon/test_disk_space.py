"""Disks that take nothing are problems, each with its own words."""

import contextlib
import subprocess
from pathlib import Path

from agent.daemon.disk_space import LITTLE, DiskSpace


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
