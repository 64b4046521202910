"""`cellnet ca` without an agent: what the root's owner does, wherever the root is."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.cli.main import run
from ca.disk import load_or_create
from tests.testlib.documents import blocks, commands, run_in_shell


class Cli:
    """`cellnet` in a folder of its own."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        """What it prints, on either stream."""
        assert run(["--root", str(self.root), *words]) == code
        printed = self._capsys.readouterr()
        return printed.out + printed.err


@pytest.fixture
def cellnet(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    monkeypatch.chdir(tmp_path)
    with tempfile.TemporaryDirectory(prefix="cnt-") as root:  # a short path: sockets are below it
        yield Cli(Path(root) / "root", capsys)


def test_a_root_anywhere_issues_what_a_cell_starts_with(cellnet: Cli, tmp_path: Path) -> None:
    assert cellnet("ca", "init", "--ca", "authority") == "made the root of cell.internal in authority\n"
    said = cellnet("ca", "issue-cell", "--ca", "authority", "--cell", "cell-1", "--out", "one")
    assert said.startswith("made one: cell-1 may vouch for its apps until ")
    started = load_or_create(tmp_path / "one", cell="cell-1", trust_domain="cell.internal", now=datetime.now(UTC))
    assert started.bundle() == (tmp_path / "authority/root.crt").read_bytes()
    assert not cellnet.root.exists(), "nothing of this host's own cell is touched"


def test_the_folder_is_named_after_the_cell_and_the_lifetime_is_what_was_asked_for(cellnet: Cli, tmp_path: Path) -> None:
    cellnet("ca", "init", "--ca", "authority", "--trust-domain", "corp.example")
    said = json.loads(cellnet("ca", "issue-cell", "--ca", "authority", "--cell", "cell-1", "--lifetime", "2d", "--json"))
    assert (said["cell"], said["directory"]) == ("cell-1", "cell-1")
    left = datetime.fromisoformat(said["not_after"]) - datetime.now(UTC)
    assert 1.9 < left.total_seconds() / 86400 <= 2
    assert (tmp_path / "cell-1/cell.key").exists()


def test_the_documents_commands_make_what_two_cells_start_with(cellnet: Cli, tmp_path: Path) -> None:
    made, copied, guarded = blocks("docs/cells.md", test="tests/cli/test_ca.py")
    secret(tmp_path / "words", WORDS)
    for command in [*commands(made), *commands(guarded)]:
        cellnet(*command.removeprefix("cellnet ").split())
    now = datetime.now(UTC)
    one, two = (
        load_or_create(tmp_path / name, cell=name, trust_domain="cell.internal", now=now) for name in ("cell-1", "cell-2")
    )
    assert one.bundle() == two.bundle()
    assert one.cell != two.cell
    host = tmp_path / "host"  # a fresh one, without /var/lib/cellnet
    for _ in range(2):  # again is fine: a renewed certificate goes the same way
        run_in_shell(copied, folder=tmp_path, instead={"/var/lib/cellnet": f"{host}/cellnet"}, env=os.environ)
        there = load_or_create(host / "cellnet/ca", cell="cell-1", trust_domain="cell.internal", now=now)
        assert (there.cell.chain, there.root) == (one.cell.chain, None)
        assert sorted(each.name for each in (host / "cellnet/ca").iterdir()) == ["cell.crt", "cell.key", "root.crt"]


def test_what_cannot_be_issued_is_reported(cellnet: Cli) -> None:
    issue = ("ca", "issue-cell", "--cell", "cell-1")
    assert "has no root.crt; hint: 'cellnet ca init'" in cellnet(*issue, "--ca", "authority", code=1)
    assert "has no root.crt" in cellnet(*issue, code=1), "this cell's own"
    cellnet("ca", "init", "--ca", "authority")
    assert "'soon' is not a duration" in cellnet(*issue, "--ca", "authority", "--lifetime", "soon", code=2)
    cellnet(*issue, "--ca", "authority")
    assert "cell-1 holds something" in cellnet(*issue, "--ca", "authority", code=1)


WORDS = "correct horse"
ISSUE = ("ca", "issue-cell", "--ca", "authority", "--cell", "cell-1")


def secret(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_a_passphrase_comes_from_a_file_that_others_cannot_read(cellnet: Cli, tmp_path: Path) -> None:
    words = secret(tmp_path / "words", f"{WORDS}\n")
    cellnet("ca", "init", "--ca", "authority", "--passphrase-file", words)
    assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / "authority/root.key").read_bytes()
    assert "there is no terminal to ask for the passphrase" in cellnet(*ISSUE, code=1)
    (tmp_path / "words").chmod(0o640)
    assert "may be read by others" in cellnet(*ISSUE, "--passphrase-file", words, code=1)
    for text, told in (("wrong\n", "does not open"), ("", "does not hold one line"), ("a\nb\n", "does not hold one line")):
        given = cellnet(*ISSUE, "--passphrase-file", secret(tmp_path / "words", text), code=1)
        assert told in given
        assert WORDS not in given
    assert "is not there" in cellnet(*ISSUE, "--passphrase-file", "nowhere", code=1)
    cellnet(*ISSUE, "--passphrase-file", secret(tmp_path / "words", WORDS))
    assert (tmp_path / "cell-1/cell.key").exists()


def on_terminal(*words: str, folder: Path, typed: str) -> tuple[int, str]:
    """Exit code of `cellnet`, and what its terminal shows."""
    ours, its = os.openpty()
    started = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-P", "-m", "agent", *words], cwd=folder, stdin=its, stdout=its, stderr=its,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    os.close(its)
    shown = b""
    answers = typed.splitlines(keepends=True)
    with contextlib.suppress(OSError):  # it has ended
        while part := os.read(ours, 1024):
            shown += part
            if part.endswith(b": ") and answers:
                os.write(ours, answers.pop(0).encode())
    os.close(ours)
    return started.wait(), shown.decode()


def test_a_passphrase_is_asked_for_on_the_terminal_and_never_shown(tmp_path: Path) -> None:
    code, shown = on_terminal("ca", "init", "--ca", "authority", "--encrypt", folder=tmp_path, typed=f"{WORDS}\n{WORDS}\n")
    assert (code, shown.count("passphrase for the root's key")) == (0, 1)
    assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / "authority/root.key").read_bytes()
    wrong, told = on_terminal(*ISSUE, folder=tmp_path, typed="wrong\n")
    assert (wrong, "the passphrase does not open" in told) == (1, True)
    right, asked = on_terminal(*ISSUE, folder=tmp_path, typed=f"{WORDS}\n")
    assert (right, "passphrase of authority/root.key" in asked) == (0, True)
    assert WORDS not in shown + told + asked
    assert (tmp_path / "cell-1/cell.key").exists()
