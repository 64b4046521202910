"""The directory followed by real inotify, under everything that people and editors do to a file."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.policy.directory import directory as directory_module
from agent.policy.directory import events as events_module
from tests.testlib.followed import ONE, TWO, Followed, following
from tests.testlib.patience import eventually_async

BIG = "policies:\n" + "".join(f"  - {{name: r{i}, from: a/b/c, to: a/b/d, tcp: {i}}}\n" for i in range(1, 4000))
QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def write_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def rename_into_place(path: Path, text: str) -> None:
    new = path.with_name(".new")
    new.write_text(text)
    new.rename(path)


def copy(path: Path, text: str) -> None:
    source = path.parent.parent / "source"
    source.write_text(text)
    subprocess.run(["cp", source, path], check=True)


def install(path: Path, text: str) -> None:
    source = path.parent.parent / "source"
    source.write_text(text)
    subprocess.run(["install", "-m", "644", source, path], check=True)


def sed(path: Path, text: str) -> None:
    """`sed -i` with a program that makes the whole text."""
    script = path.parent.parent / "script"
    script.write_text("1{\nr %s\nd\n}\n2,$d\n" % (path.parent.parent / "source"))
    (path.parent.parent / "source").write_text(text)
    subprocess.run(["sed", "-i", "-f", script, path], check=True)


PAUSE = 0.02  # long enough for a look at what is half done


def as_vim_does(path: Path, text: str) -> None:
    """A backup by renaming, a new file under the old name, the backup removed."""
    probe, backup = path.with_name("4913"), path.with_name(path.name + "~")
    probe.write_text("")
    probe.unlink()
    path.rename(backup)
    time.sleep(PAUSE)
    with path.open("w") as file:
        middle = text.find("\n", len(text) // 2) + 1
        for piece in (text[:middle], text[middle:]):
            time.sleep(PAUSE)
            probe.touch()  # something else happens in the directory, so that it is looked at
            file.write(piece)
            file.flush()
    backup.unlink()


def as_emacs_does(path: Path, text: str) -> None:
    """A backup by copying, then truncated and written in place, then a change of mode."""
    shutil.copy(path, path.with_name(path.name + "~"))
    write_in_place(path, text)
    path.chmod(0o644)


def hard_link(path: Path, text: str) -> None:
    source = path.parent.parent / "source"
    source.write_text(text)
    path.unlink()
    os.link(source, path)


def soft_link(path: Path, text: str) -> None:
    source = path.parent.parent / "source"
    source.write_text(text)
    path.unlink()
    path.symlink_to(source)


WAYS = [write_in_place, rename_into_place, copy, install, sed, as_vim_does, as_emacs_does, hard_link, soft_link]


@pytest.mark.parametrize("save", WAYS, ids=lambda save: save.__name__)
@pytest.mark.parametrize("text", [TWO, BIG], ids=["small", "big"])
async def test_no_way_of_saving_drops_a_policy_for_a_moment(
    timeless: Followed, save: Callable[[Path, str], None], text: str
) -> None:
    followed = timeless
    followed.file.write_text(ONE)
    await followed.until(lambda: followed.names == ("one",))
    followed.seen.clear()
    await asyncio.to_thread(save, followed.file, text)
    await followed.until(lambda: len(followed.names) == text.count("name:") and followed.names != ("one",))
    await followed.quiet()
    assert len(followed.seen) == 1, "one change and no state between"
    assert followed.files.problems() == ()


async def test_a_slow_writer_is_waited_for_whatever_else_happens(timeless: Followed) -> None:
    timeless.file.write_text(BIG)
    await timeless.until(lambda: len(timeless.names) == 3999)
    with timeless.file.open("w") as file:
        file.write(BIG[: BIG.index("  - {name: r2000")])  # whole rules: valid, and half of them
        file.flush()
        (timeless.directory / "b.yaml").write_text(TWO)
        await timeless.until(lambda: timeless.names[-1] == "two")
        assert len(timeless.names) == 3999 + 1
        file.write("  - {name: last, from: a/b/c, to: a/b/d, tcp: 1}\n")
    await timeless.until(lambda: timeless.names[-2] == "last")
    assert len(timeless.names) == 2000 + 1


REWRITING = """
import sys
for turn in range(200):
    with open(sys.argv[1], "w", buffering=1) as file:
        file.write("policies:\\n")
        for line in range(200):
            file.write(f"  - {{name: t{turn}r{line}, from: a/b/c, to: a/b/d, tcp: 1}}\\n")
"""


async def test_a_file_rewritten_in_place_again_and_again_is_never_seen_half(timeless: Followed) -> None:
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", REWRITING, str(timeless.file))
    assert await writer.wait() == 0
    await timeless.until(lambda: timeless.names[:1] == ("t199r0",))
    assert {len(names) for names in timeless.seen} == {200}
    assert timeless.files.problems() == ()


async def test_a_second_writer_undoes_what_the_first_called_complete(timeless: Followed) -> None:
    timeless.file.write_text(ONE)
    await timeless.until(lambda: timeless.names == ("one",))
    timeless.file.write_text(TWO)  # closed, but the next writer has begun before anybody could look
    with timeless.file.open("w") as file:
        file.write("policies: []\n#")
        file.flush()
        (timeless.directory / "b.yaml").write_text(TWO)
        await timeless.until(lambda: timeless.names[-1] == "two")
        await timeless.quiet()
        assert timeless.names == ("one", "two")
    await timeless.until(lambda: timeless.names == ("two",))


async def test_a_file_that_is_never_closed_is_read_when_its_writer_rests(followed: Followed) -> None:
    with followed.file.open("w") as file:
        file.write(ONE)
        file.flush()
        await followed.until(lambda: followed.names == ("one",))


async def test_a_removed_file_is_gone_and_its_copy_too(followed: Followed, tmp_path: Path) -> None:
    followed.file.write_text(ONE)
    await followed.until(lambda: followed.names == ("one",))
    copy = tmp_path / "state" / "a.yaml"
    await eventually_async(copy.exists)
    followed.file.unlink()
    await followed.until(lambda: followed.names == ())
    await eventually_async(lambda: not copy.exists())


async def test_a_bad_file_is_announced_and_so_is_its_mending(followed: Followed) -> None:
    followed.file.write_text(ONE)
    await followed.until(lambda: followed.names == ("one",))
    followed.file.write_text("policies: [")
    await followed.until(lambda: followed.files.problems() != ())
    assert followed.names == ("one",)
    followed.file.write_text(ONE)
    await followed.until(lambda: followed.files.problems() == ())


async def test_a_change_of_mode_is_noticed(followed: Followed) -> None:
    followed.file.write_text(ONE)
    await followed.until(lambda: followed.names == ("one",))
    followed.file.chmod(0o666)
    await followed.until(lambda: followed.files.problems() != ())
    followed.file.chmod(0o644)
    await followed.until(lambda: followed.files.problems() == ())


async def test_a_directory_that_appears_later_is_followed(tmp_path: Path) -> None:
    async with following(tmp_path) as followed:
        followed.directory.mkdir(parents=True)
        followed.file.write_text(ONE)
        await followed.until(lambda: followed.names == ("one",))
        followed.file.write_text(TWO)
        await followed.until(lambda: followed.names == ("two",))


async def test_a_directory_that_is_replaced_is_followed_under_its_name(followed: Followed) -> None:
    followed.file.write_text(ONE)
    await followed.until(lambda: followed.names == ("one",))
    followed.seen.clear()
    new, old = followed.directory.with_name("new"), followed.directory.with_name("old")
    new.mkdir()
    (new / "a.yaml").write_text(TWO)
    followed.directory.rename(old)
    new.rename(followed.directory)
    await followed.until(lambda: followed.names == ("two",))
    assert followed.seen == [("two",)], "nothing in between"
    (old / "a.yaml").write_text(ONE)
    followed.file.write_text(ONE.replace("one", "three"))
    await followed.until(lambda: followed.names == ("three",))


async def test_a_directory_removed_with_everything_above_it_and_made_again_is_followed(followed: Followed) -> None:
    followed.file.write_text(ONE)
    await followed.until(lambda: followed.names == ("one",))
    shutil.rmtree(followed.directory.parent)
    await followed.until(lambda: followed.names == ())
    followed.directory.mkdir(parents=True)
    followed.file.write_text(TWO)
    await followed.until(lambda: followed.names == ("two",))


async def test_a_flood_of_events_loses_nothing(followed: Followed) -> None:
    other = followed.directory / "other"
    for _ in range(QUEUE // 2 + 100):  # without a turn of the loop: two events each, so the queue runs over
        other.touch()
        other.unlink()
    followed.file.write_text(ONE)
    await followed.until(lambda: followed.names == ("one",))


async def test_without_inotify_changes_are_still_found_and_a_problem_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: object) -> None:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(events_module, "Inotify", refused)
    monkeypatch.setattr(directory_module, "POLL", 0.05)
    (tmp_path / "etc" / "policies.d").mkdir(parents=True)
    async with following(tmp_path) as followed:
        followed.file.write_text(ONE)
        await followed.until(lambda: followed.names == ("one",))
        assert [each.message for each in followed.files.problems()] == ["cannot be watched: Too many open files"]


async def test_changes_found_by_another_scan_are_announced_too(followed: Followed) -> None:
    followed.file.write_text(ONE)
    assert followed.files.scan(0.0, closed={"a.yaml"})
    await followed.until(lambda: ("one",) in followed.seen)


async def test_following_ends_when_it_is_cancelled_and_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with following(tmp_path):
            pass
    assert len(os.listdir("/proc/self/fd")) <= before + 1
