"""An agent on memory, behind the socket that the command line finds, and that command line."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.cli.main import run
from tests.testlib.fake_cell import FakeCell, serving


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
