"""What a message has its reader run is there: commands of ours, and targets of make."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agent.cli.main import cli
from agent.wording import program

UNIT = re.compile(r"\bcellnet[a-z-]*\.(?:service|target)\b")
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("agent", "ca", "dataplane", "host", "lab")
OURS = re.compile(r"(?:^|['`]|sudo )cellnet ((?:[a-z-]+ ?)+)")
MAKE = re.compile(r"sudo make ([a-z]+)")


def texts(path: Path) -> Iterator[str]:
    """All strings of a file but the docstrings; what is filled in shows as X."""
    tree = ast.parse(path.read_text())
    ignored = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            ignored |= set(map(id, node.values))
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else _filled(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ignored:
            yield node.value


def _filled(part: ast.expr) -> str:
    return "cellnet" if "program()" in ast.unparse(part) else "X"


FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
TEXTS = {(str(path.relative_to(ROOT)), text) for path in FILES for text in texts(path)}
PROSE = {"demo", "must", "needs", "policies", "signs", "terminates"}  # "cellnet needs root"


def missing(words: str) -> bool:
    """Whether the first of `words`, or the second below a group, is no command."""
    command: click.Command | None = cli
    for word in words.split():
        if not isinstance(command, click.Group):
            return False
        command = command.get_command(click.Context(command), word)
        if command is None:
            return True
    return False


def test_the_commands_of_messages_exist() -> None:
    named = {(place, found) for place, text in TEXTS for found in OURS.findall(text)}
    assert len(named) > 20
    assert {each for each in named if each[1].split()[0] not in PROSE and missing(each[1])} == set()


def test_the_targets_of_messages_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {found for _, text in TEXTS for found in MAKE.findall(text)} <= targets


def test_the_units_of_messages_exist() -> None:
    units = {each.name for each in (ROOT / "systemd").iterdir()}
    named = {found for _, text in TEXTS for found in UNIT.findall(text)}
    assert len(named) > 4
    assert named <= units


@pytest.mark.parametrize(("called", "named"), [("/x/bin/cellnet", "/x/bin/cellnet"), ("/x/agent/__main__.py", "cellnet")])
def test_a_hint_for_sudo_names_the_program_that_runs(monkeypatch: pytest.MonkeyPatch, called: str, named: str) -> None:
    monkeypatch.setattr("sys.argv", [called])
    assert program() == named
