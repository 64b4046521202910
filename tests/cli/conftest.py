"""An agent on memory, behind the socket that the command line finds, and that command line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.cli.main import run
from tests.testlib.fakes.cell import FakeCell, serving


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a target."""
    monkeypatch.delenv("CELLNET_SPACE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def cell() -> FakeCell:
    return FakeCell()


@pytest.fixture
def agent(cell: FakeCell, tmp_path: Path) -> Iterator[Path]:
    """The root below which it answers."""
    with serving(cell, tmp_path / "run/cellnet/agent.sock"):
        yield tmp_path


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Cli = Callable[..., Done]


@pytest.fixture
def cellnet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str) -> Done:
        code = run(["--root", str(tmp_path), *arguments])
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return call


def completed(agent: Path, words: str, **env: str) -> list[str]:
    """What the shell offers for the last word."""
    asked = {"_CELLNET_COMPLETE": "bash_complete", "COMP_WORDS": f"cellnet {words}", "COMP_CWORD": str(len(words.split(" ")))}
    environment = {**os.environ, **asked, "CELLNET_ROOT": str(agent), **env}
    done = subprocess.run([sys.executable, "-m", "agent"], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return [line.removeprefix("plain,") for line in done.stdout.split()]
