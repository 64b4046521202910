"""What root alone can change may be obeyed; everything else is refused with what to do about it."""

import os
from pathlib import Path

import pytest

from host.errors import HostRefused
from host.trust import require_trusted

USER = 65534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "agent.yaml"
    path.parent.mkdir(mode=0o755)
    path.touch()
    path.chmod(0o644)
    return path


def refusal(path: Path, *, secret: bool = False) -> tuple[str, str]:
    with pytest.raises(HostRefused) as refused:
        require_trusted(path, secret=secret)
    return refused.value.what, refused.value.hint


def test_roots_own_file_is_trusted_and_so_is_one_that_is_not_there(file: Path) -> None:
    require_trusted(file)
    require_trusted(file.with_name("none"))
    require_trusted(file / "below")
    file.chmod(0o600)
    require_trusted(file, secret=True)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    what = f"{file} can be written by group or others (mode {mode:04o})"
    assert refusal(file) == (what, f"chown root {file} && chmod go-w {file}")


def test_another_users_file_is_refused_as_is_one_in_another_users_folder(file: Path) -> None:
    os.chown(file, USER, 0)
    assert refusal(file)[0] == f"{file} belongs to uid {USER}, not to root"
    os.chown(file, 0, 0)
    os.chown(file.parent, USER, 0)
    assert refusal(file)[0] == f"{file.parent} belongs to uid {USER}, not to root"


def test_a_folder_that_others_can_write_is_refused_unless_it_keeps_roots_files_safe(file: Path) -> None:
    file.parent.chmod(0o777)
    assert refusal(file)[0] == f"{file.parent} can be written by group or others (mode 0777)"
    file.parent.chmod(0o1777)
    require_trusted(file)


def test_a_secret_that_others_can_read_is_refused(file: Path) -> None:
    for mode in (0o640, 0o604):
        file.chmod(mode)
        what, hint = refusal(file, secret=True)
        assert what == f"{file} can be read by others than root (mode {mode:04o})"
        assert hint == f"chmod 600 {file}, and change the secret if another user may have read it"


def test_every_link_on_the_way_counts_and_its_folder(file: Path, tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users/current").symlink_to(file.parent)
    (tmp_path / "link").symlink_to("users/current/agent.yaml")
    require_trusted(tmp_path / "link")
    os.chown(tmp_path / "users/current", USER, 0, follow_symlinks=False)
    assert refusal(tmp_path / "link")[0] == f"{tmp_path}/users/current belongs to uid {USER}, not to root"
    os.chown(tmp_path / "users/current", 0, 0, follow_symlinks=False)
    os.chown(tmp_path / "users", USER, 0)
    assert refusal(tmp_path / "link")[0] == f"{tmp_path}/users belongs to uid {USER}, not to root"
    os.chown(tmp_path / "users", 0, 0)
    file.chmod(0o666)
    assert refusal(tmp_path / "link")[0] == f"{file} can be written by group or others (mode 0666)"
