"""The folder of names: what is written is what is read, dnsmasq's user can read and not write it, and nothing strange stays."""

import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.dns.hosts_files import HostsFolder, Names, block_of
from tests.testlib.disks import Filler, small_disk

FIRST, NEXT, FAR = (IPv4Address(f"10.255.1.{last}") for last in (2, 3, 200))
BOTH: Names = {FIRST: ("api.internal", "0.api.internal"), NEXT: ("api.internal",)}


@pytest.fixture
def folder(tmp_path: Path) -> HostsFolder:
    made = HostsFolder(tmp_path / "names")
    assert made.read() == {}
    return made


def write(folder: HostsFolder, names: Names, *, withdrawn: bool = False) -> list[IPv4Address]:
    """All of them; the blocks that failed."""
    blocks = {block_of(each) for each in (*names, *folder.read())}
    return [block for block, _ in folder.write(sorted(blocks), names, withdrawn=withdrawn)]


addresses = st.integers(int(FIRST), int(FIRST) + 100).map(IPv4Address)
names = st.lists(st.sampled_from(["a.internal", "b.internal", "0.b.internal"]), min_size=1, unique=True)
tables = st.dictionaries(addresses, names)


def test_what_is_written_is_read_by_another(tmp_path: Path) -> None:
    @given(st.lists(tables, max_size=3))
    def from_any_to_any(steps: list[dict[IPv4Address, list[str]]]) -> None:
        folder = HostsFolder(tmp_path / "names")
        for step in steps:
            names = {address: tuple(each) for address, each in step.items()}
            assert write(folder, names) == []
            assert folder.read() == names
            assert HostsFolder(folder.path).read() == names

    from_any_to_any()


def test_neighbours_share_a_file_and_one_that_is_empty_goes(folder: HostsFolder) -> None:
    write(folder, {**BOTH, FAR: ("far.internal",)})
    assert sorted(os.listdir(folder.path)) == ["10.255.1.0", "10.255.1.192"]
    assert (folder.path / "10.255.1.0").read_text() == "10.255.1.2 api.internal 0.api.internal\n10.255.1.3 api.internal\n"
    write(folder, {NEXT: ("api.internal",)})
    assert os.listdir(folder.path) == ["10.255.1.0"]


def test_others_can_read_and_not_write_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        folder = HostsFolder(tmp_path / "names")
        folder.read()
        write(folder, BOTH)
    finally:
        os.umask(before)
    assert folder.path.stat().st_mode & 0o777 == 0o755
    assert (folder.path / "10.255.1.0").stat().st_mode & 0o777 == 0o644


def damaged(path: Path, damage: str) -> None:
    match damage:
        case "written over":
            path.write_text("10.255.1.2 another.internal\n")
        case "gone":
            path.unlink()
        case "another's":
            os.chown(path, 65534, 65534)
        case "writable":
            path.chmod(0o666)
        case "a link":
            path.unlink()
            path.symlink_to("/etc/hosts")
        case "no text":
            path.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("damage", ["written over", "gone", "another's", "writable", "a link", "no text"])
def test_damage_is_read_back(folder: HostsFolder, damage: str) -> None:
    write(folder, BOTH)
    assert folder.read() == BOTH
    damaged(folder.path / "10.255.1.0", damage)
    assert folder.read() != BOTH
    folder.remove(folder.strange())
    write(folder, BOTH)
    assert folder.read() == BOTH
    assert folder.strange() == ()


@pytest.mark.parametrize("name", ["hosts", "10.255.1.2", ".hidden", "10.255.1.0.bak"])
def test_a_strange_file_is_seen_and_can_be_removed(folder: HostsFolder, name: str) -> None:
    write(folder, BOTH)
    (folder.path / name).write_text("10.255.1.99 api.internal\n")
    assert folder.read() == BOTH
    assert folder.strange() == (name,)
    folder.remove(folder.strange())
    assert os.listdir(folder.path) == ["10.255.1.0"]


def test_a_folder_where_a_file_should_be_is_removed(folder: HostsFolder) -> None:
    (folder.path / "10.255.1.0").mkdir()
    assert write(folder, BOTH) == [IPv4Address("10.255.1.0")]
    assert os.listdir(folder.path) == ["10.255.1.0"]
    folder.remove(folder.strange())
    assert write(folder, BOTH) == []


def test_a_file_that_has_not_changed_is_not_read_again(folder: HostsFolder) -> None:
    write(folder, BOTH)
    first = folder.read()
    second = folder.read()
    assert all(second[address] is names for address, names in first.items())


@pytest.fixture
def full(tmp_path: Path) -> Iterator[HostsFolder]:
    """A folder with two files, and no room for a third."""
    with small_disk(tmp_path / "disk", "size=1m,mode=0755") as disk:
        folder = HostsFolder(disk / "names")
        folder.read()
        write(folder, {**BOTH, FAR: ("far.internal",)})
        Filler(disk / "filler").fill()
        yield folder


def test_without_room_what_comes_is_refused_and_what_was_stays(full: HostsFolder) -> None:
    more = {**BOTH, FAR: ("far.internal", "new.internal")}
    assert write(full, more) == [block_of(FIRST), block_of(FAR)]
    assert full.read() == {**BOTH, FAR: ("far.internal",)}
    assert full.strange() == ()


def test_without_room_what_goes_goes_all_the_same(full: HostsFolder) -> None:
    less = {FIRST: ("api.internal",)}
    assert write(full, less, withdrawn=True) == []
    assert full.read() == less
