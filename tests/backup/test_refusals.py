"""What is not restored, and why; then nothing of the cell has changed."""

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.backup.seal import sealed
from tests.backup.conftest import MakeHome
from tests.testlib.cell_on_disk import CONFIG, CellOnDisk

Damage = Callable[[bytes], bytes]


@pytest.fixture
def taken(cell: CellOnDisk, backup: Path) -> Iterator[Path]:
    """A backup, and the cell is what it was after the test."""
    cell.cellnet("backup", str(backup))
    before = cell.files()
    yield backup
    assert cell.files() == before


def header(content: bytes, **changed: object) -> bytes:
    """Another first line."""
    line, _, rest = content.partition(b"\n")
    about = json.loads(line.removeprefix(b"cellnet-backup ")) | changed
    return b"cellnet-backup " + json.dumps(about).encode() + b"\n" + rest


def with_member(content: bytes, name: str, *, link: bool = False) -> bytes:
    """The backup with one file more, its line in order."""
    archive = zlib.decompress(content.partition(b"\n")[2], wbits=31)
    made = io.BytesIO(archive)
    with tarfile.open(fileobj=made, mode="a:") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = (tarfile.SYMTYPE, "/etc/shadow") if link else (tarfile.REGTYPE, "")
        tar.addfile(member)
    pack = zlib.compressobj(wbits=31)
    return sealed(pack.compress(made.getvalue()) + pack.flush(), passphrase=None)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "another program's": (lambda _: b"PK\x03\x04 and more", "is no backup of cellnet"),
    "empty": (lambda _: b"", "is no backup of cellnet"),
    "cut off": (lambda content: content[:-9], "is damaged: it has"),
    "one bit": (lambda content: content[:-50] + bytes([content[-50] ^ 1]) + content[-49:], "its digest is another"),
    "its line": (lambda content: content.replace(b'"size"', b'"sise"'), "is damaged"),
    "no line": (lambda _: b'cellnet-backup {"format"', "is no backup of cellnet"),
    "a newer format": (lambda content: header(content, format=2), "made by a newer cellnet (format 2, this one knows 1)"),
    "no archive": (lambda _: sealed(b"nothing", passphrase=None), "is no backup of cellnet"),
    "climbs out": (lambda content: with_member(content, "policies/../../../passwd.yaml"), "has no place for a file"),
    "absolute": (lambda content: with_member(content, "/etc/passwd"), "is no backup of cellnet"),
    "unknown key": (lambda content: with_member(content, "ca/authorized_keys"), "has no place for a file"),
    "a link": (lambda content: with_member(content, "policies/x.yaml", link=True), "policies/x.yaml is no file"),
    "hidden": (lambda content: with_member(content, "policies/.x.yaml"), "has no place for a file"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_or_foreign_file_is_refused(cell: CellOnDisk, taken: Path, what: str) -> None:
    damage, why = DAMAGES[what]
    taken.write_bytes(damage(taken.read_bytes()))
    said = cell.cellnet("restore", str(taken), code=1 if "newer" in what else 2)
    assert why in said
    assert "hint: " in said


def test_a_wrong_passphrase_and_none_are_refused(cell: CellOnDisk, taken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = taken.with_name("right"), taken.with_name("wrong")
    for each in (right, wrong):
        each.write_text(each.name)
        each.chmod(0o600)
    cell.cellnet("backup", str(taken), "--passphrase-file", str(right))
    assert "the passphrase does not open" in cell.cellnet("restore", str(taken), "--passphrase-file", str(wrong), code=1)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "no terminal to ask for the passphrase" in cell.cellnet("restore", str(taken), code=1)
    right.chmod(0o644)
    assert "may be read by others" in cell.cellnet("restore", str(taken), "--passphrase-file", str(right), code=1)


def test_a_database_of_a_newer_version_is_refused(cell: CellOnDisk, home: MakeHome, taken: Path) -> None:
    newer = home("newer")
    newer.make()
    subprocess.run(["sqlite3", newer.database, "PRAGMA user_version = 999"], check=True, capture_output=True)
    assert "written by a newer cellnet" in newer.cellnet("backup", str(taken), code=1)


def test_another_cells_backup_is_refused_unless_it_is_meant(cell: CellOnDisk, home: MakeHome, backup: Path) -> None:
    cell.cellnet("backup", str(backup))
    other = home("two")
    other.make(identity="two")
    before = other.files()
    assert "is another cell's" in other.cellnet("restore", str(backup), code=1)
    assert other.files() == before
    other.cellnet("restore", str(backup), "--another-cell")
    with other.ledger() as ledger:
        assert ledger.cell_id(fresh="") == "one"


def test_a_host_of_another_name_is_another_cell(home: MakeHome, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = home("nameless")
    nameless.make(text="egress: {default: allow}\n")
    nameless.cellnet("backup", str(backup))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(os, "uname", lambda: os.uname_result(("Linux", "cell-9", "", "", "")))
        fresh = home("fresh")
        said = fresh.cellnet("restore", str(backup), code=1)
        assert "with it this host would be cell cell-9" in said
        assert "cell: " in said
        fresh.cellnet("restore", str(backup), "--another-cell")


def test_an_agent_of_another_network_namespace_is_seen_by_its_socket(cell: CellOnDisk, taken: Path) -> None:
    path = cell.root / "run/cellnet/agent.sock"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert "restored" in cell.cellnet("restore", str(taken)), "a dead one's"
        listener.listen()
        assert f"an agent answers on {path}" in cell.cellnet("restore", str(taken), code=1)


def test_containers_that_run_are_not_cut_off(cell: CellOnDisk, taken: Path) -> None:
    cell.attach("web")
    assert "web would lose the network" in cell.cellnet("restore", str(taken), code=1)


def test_a_damaged_database_is_replaced_and_not_backed_up(cell: CellOnDisk, backup: Path) -> None:
    before = cell.files()
    cell.cellnet("backup", str(backup))
    good = backup.read_bytes()
    cell.database.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert "is damaged" in cell.cellnet("backup", str(backup), code=1)
    assert backup.read_bytes() == good
    cell.cellnet("restore", str(backup))
    assert cell.files() == before


def test_what_is_no_backup_is_not_written_over(cell: CellOnDisk) -> None:
    content = cell.config.read_bytes()
    assert "is there, and is no backup" in cell.cellnet("backup", str(cell.config), code=1)
    assert cell.config.read_bytes() == content == CONFIG.encode()


def test_where_no_agent_has_run_there_is_nothing_to_back_up(home: MakeHome, backup: Path) -> None:
    assert "no agent has run here yet" in home("empty").cellnet("backup", str(backup), code=1)
    assert not backup.exists()


def test_a_backup_that_cannot_be_written_leaves_nothing(cell: CellOnDisk, tmp_path: Path) -> None:
    assert f"there is no folder {tmp_path}/nowhere" in cell.cellnet("backup", str(tmp_path / "nowhere/cell.backup"), code=2)
    assert "cannot write" in cell.cellnet("backup", "/proc/cell.backup", code=1)
    assert "No such file" in cell.cellnet("restore", str(tmp_path / "nowhere/cell.backup"), code=1)
