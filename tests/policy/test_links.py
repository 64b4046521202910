"""Links on the way to the policy directory and to its files: a swap of any of them is noticed at once."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from host.links import LIMIT, Entry, Walk
from tests.testlib.followed import ONE, TWO, Followed, following


def swap(link: Path, target: str) -> None:
    """As `ln -sfn` or a deployment does: in one step."""
    new = link.with_name(f".{link.name}.new")
    new.symlink_to(target)
    new.rename(link)


def release(folder: Path, name: str, text: str) -> Path:
    """A folder with one policy file."""
    (folder / name).mkdir(parents=True)
    (folder / name / "a.yaml").write_text(text)
    return folder / name


async def test_a_link_that_a_link_leads_over_takes_effect_at_once_when_it_is_swapped(
    timeless: Followed, tmp_path: Path
) -> None:
    release(tmp_path / "srv/releases", "1", ONE)
    release(tmp_path / "srv/releases", "2", TWO)
    (tmp_path / "srv/current").symlink_to("releases/1")
    (tmp_path / "way").symlink_to("srv/current")
    timeless.file.symlink_to("../../way/a.yaml")
    await timeless.until(lambda: timeless.names == ("one",))
    timeless.seen.clear()
    swap(tmp_path / "srv/current", "releases/2")
    await timeless.until(lambda: timeless.names == ("two",))
    swap(tmp_path / "way", "srv/releases/1")
    await timeless.until(lambda: timeless.names == ("one",))
    swap(timeless.file, "../../srv/releases/2/a.yaml")
    await timeless.until(lambda: timeless.names == ("two",))
    assert timeless.seen == [("two",), ("one",), ("two",)]


async def test_a_link_that_is_removed_and_made_again_is_followed_at_once(timeless: Followed, tmp_path: Path) -> None:
    release(tmp_path, "1", ONE)
    release(tmp_path, "2", TWO)
    (tmp_path / "current").symlink_to("1")
    timeless.file.symlink_to(tmp_path / "current/a.yaml")
    await timeless.until(lambda: timeless.names == ("one",))
    (tmp_path / "current").unlink()
    await timeless.until(lambda: timeless.files.problems() != ())
    assert timeless.names == ("one",)
    (tmp_path / "current").symlink_to("2")
    await timeless.until(lambda: timeless.names == ("two",) and timeless.files.problems() == ())


async def test_files_that_are_mounted_as_kubernetes_does_change_together_and_at_once(timeless: Followed) -> None:
    release(timeless.directory, "..1", ONE)
    swap(timeless.directory / "..data", "..1")
    timeless.file.symlink_to("..data/a.yaml")
    await timeless.until(lambda: timeless.names == ("one",))
    release(timeless.directory, "..2", TWO)
    swap(timeless.directory / "..data", "..2")
    await timeless.until(lambda: timeless.names == ("two",))
    shutil.rmtree(timeless.directory / "..1")
    await timeless.quiet()
    assert (timeless.names, timeless.files.problems()) == (("two",), ())


@pytest.mark.parametrize("level", ["policies.d", "etc"])
async def test_a_directory_that_is_a_link_takes_effect_at_once_when_it_is_swapped(tmp_path: Path, level: str) -> None:
    for name, text in (("1", ONE), ("2", TWO), ("3", ONE)):
        release(tmp_path / name, "policies.d", text)
    if level == "etc":
        link, targets = tmp_path / "etc", ("1", "2", "3")
    else:
        (tmp_path / "etc").mkdir()
        link, targets = tmp_path / "etc/policies.d", ("../1/policies.d", "../2/policies.d", "../3/policies.d")
    link.symlink_to(targets[0])
    async with following(tmp_path, clock=lambda: 0.0) as followed:
        assert followed.names == ("one",)
        swap(link, targets[1])
        await followed.until(lambda: followed.names == ("two",))
        link.unlink()
        link.symlink_to(targets[2])
        await followed.until(lambda: followed.names == ("one",))
        (tmp_path / "3/policies.d/a.yaml").write_text(TWO)
        await followed.until(lambda: followed.names == ("two",))


async def test_the_target_of_a_link_takes_effect_when_it_is_written_and_closed(timeless: Followed, tmp_path: Path) -> None:
    target = release(tmp_path, "srv", ONE) / "a.yaml"
    timeless.file.symlink_to(target)
    (timeless.directory / "b.yaml").symlink_to(target)
    await timeless.until(lambda: timeless.names == ("one", "one"))
    timeless.seen.clear()
    with target.open("w") as file:
        file.write("policies: []\n#")
        file.flush()
        await timeless.quiet()
        assert timeless.seen == [], "half a file"
        file.seek(0)
        file.write(TWO)
    await timeless.until(lambda: timeless.names == ("two", "two"))
    new = target.with_name(".new")
    new.write_text(ONE)
    new.rename(target)
    await timeless.until(lambda: timeless.names == ("one", "one"))
    target.chmod(0o666)
    await timeless.until(lambda: len(timeless.files.problems()) == 2)


async def test_ways_that_are_no_longer_taken_are_no_longer_watched(timeless: Followed, tmp_path: Path) -> None:
    for number in range(20):
        release(tmp_path, str(number), ONE.replace("one", f"p{number}"))
        swap(timeless.file, str(tmp_path / str(number) / "a.yaml"))
        expected = (f"p{number}",)
        await timeless.until(partial(timeless.shows, expected))
    assert watches() == 4, "the directory, the one above it, the target and its folder"


def watches() -> int:
    """How many files and folders this process watches."""
    descriptors = [each for each in Path("/proc/self/fdinfo").iterdir() if "inotify wd" in readable(each)]
    return sum(readable(each).count("inotify wd") for each in descriptors)


def readable(path: Path) -> str:
    """The content, nothing for a descriptor that has been closed meanwhile."""
    try:
        return path.read_text()
    except OSError:
        return ""


def way(path: Path) -> list[Entry]:
    return list(Walk().way(str(path)))


def test_a_way_is_its_links_and_its_end(tmp_path: Path) -> None:
    release(tmp_path / "srv", "1", ONE)
    (tmp_path / "current").symlink_to("srv/./1")
    (tmp_path / "link").symlink_to("srv/../current/a.yaml")
    assert way(tmp_path / "link") == [
        Entry(str(tmp_path), "link"),
        Entry(str(tmp_path), "current"),
        Entry(str(tmp_path / "srv/1"), "a.yaml"),
    ]


def test_a_way_ends_where_something_is_missing_and_in_a_circle(tmp_path: Path) -> None:
    assert way(tmp_path / "none/a.yaml") == [Entry(str(tmp_path), "none")]
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert len(way(tmp_path / "a/x")) == LIMIT + 1
    assert way(Path("/")) == []
