"""Files and folders: whole or absent, with the modes that were asked for."""

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from host import durable
from host.durable import PUBLIC, SECRET, Write


@pytest.fixture(params=[0o000, 0o022, 0o027, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    old = os.umask(request.param)
    yield int(request.param)
    os.umask(old)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.usefixtures("umask")
def test_modes_are_those_that_were_asked_for_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "folder"
    durable.make_folder(folder, mode=0o700)
    durable.create(folder / "new", b"", mode=SECRET)
    durable.replace(Write(folder / "public", b"", PUBLIC), Write(folder / "secret", b"", SECRET))
    assert [mode(path) for path in (folder.parent, folder)] == [0o755, 0o700]
    assert [mode(folder / name) for name in ("new", "public", "secret")] == [0o600, 0o644, 0o600]


def test_a_folder_that_is_there_keeps_its_mode_and_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o711)
    durable.make_folder(tmp_path / "mine", mode=0o700)
    assert mode(tmp_path / "mine") == 0o711
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        durable.make_folder(tmp_path / "file", mode=0o700)


def test_what_a_crash_left_under_the_temporary_name_is_no_obstacle(tmp_path: Path) -> None:
    for name in ("one", "two"):
        durable.temporary_of(tmp_path / name).symlink_to(tmp_path / "elsewhere")
    durable.create(tmp_path / "one", b"1", mode=SECRET)
    durable.replace(Write(tmp_path / "two", b"2", SECRET))
    assert names(tmp_path) == ["one", "two"]


def test_a_file_that_cannot_have_its_name_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        durable.replace(Write(tmp_path / "file", b"1", SECRET), Write(tmp_path / "taken", b"2", SECRET))
    assert names(tmp_path) == ["file", "taken"]


def test_what_is_there_is_replaced_but_never_created_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(FileExistsError):
        durable.create(path, b"after", mode=SECRET)
    assert path.read_bytes() == b"before"
    durable.replace(Write(path, b"after", SECRET))
    assert path.read_bytes() == b"after"
    assert names(tmp_path) == ["file"]


def test_what_goes_with_the_boot_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk is asked")

    monkeypatch.setattr(os, "fsync", asked)
    durable.replace(Write(tmp_path / "brief", b"new", PUBLIC), lasting=False)
    assert (tmp_path / "brief").read_bytes() == b"new"
    with pytest.raises(OSError, match="the disk is asked"):
        durable.replace(Write(tmp_path / "lasting", b"new", PUBLIC))
    assert names(tmp_path) == ["brief"]


def test_of_files_that_belong_together_none_is_replaced_where_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match="No such file"):
        durable.replace(Write(path, b"after", SECRET), Write(tmp_path / "missing" / "other", b"", SECRET))
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_the_longest_name_is_written_like_any_other(tmp_path: Path, name: str) -> None:
    durable.replace(Write(tmp_path / name, b"", SECRET))
    assert names(tmp_path) == [name]


def test_of_writers_that_lock_their_folder_each_waits_for_the_others(tmp_path: Path) -> None:
    entered = threading.Event()

    def other() -> None:
        with durable.locked(tmp_path):
            entered.set()

    with durable.locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(10)
    thread.join()
