"""The reason of a failed start, for the command line while there is no agent."""

import os
import subprocess
from pathlib import Path

import pytest

from agent import last_start
from agent.client.connection import Client
from agent.errors import Unavailable
from agent.last_start import Failure


def test_the_reason_of_a_failed_start_is_reported_until_the_agent_serves(tmp_path: Path) -> None:
    client = Client(tmp_path / "run" / "agent.sock")
    (tmp_path / "run").mkdir()
    last_start.write(tmp_path / "run", Failure("the file is damaged", "move it away"))
    with pytest.raises(Unavailable, match=r"its last start failed: the file is damaged") as refused:
        client.get("/v1/status")
    assert refused.value.hint == "move it away"
    assert os.listdir(tmp_path / "run") == [last_start.NOTE]
    last_start.remove(tmp_path / "run")
    with pytest.raises(Unavailable, match=r"no agent answers at [^ ]*$"):
        client.get("/v1/status")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"what": "x"}'])
def test_a_damaged_note_of_a_failed_start_counts_for_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / last_start.NOTE).write_text(content)
    assert last_start.read(tmp_path) is None


def test_a_note_of_a_failed_start_needs_no_writable_folder(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    last_start.write(disk / "run", Failure("w", "h"))
    last_start.remove(disk / "run")
