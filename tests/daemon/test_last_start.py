"""The reason of a failed start, for the command line while there is no agent."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
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


def test_a_config_that_is_refused_is_the_reason_and_its_time_is_shown(tmp_path: Path) -> None:
    (tmp_path / "etc/cellnet").mkdir(parents=True)
    (tmp_path / "etc/cellnet/agent.yaml").write_text("underlai: {}\n")
    before = datetime.now(UTC).replace(microsecond=0)
    for command in ("agent", "up"):
        said = subprocess.run(
            [sys.executable, "-m", "agent", "--root", tmp_path, command], capture_output=True, check=False, text=True
        )
        assert (said.returncode, "underlai" in said.stderr) == (2, True)
        with pytest.raises(Unavailable, match=r"its last start failed at [^\n]*") as refused:
            Client(tmp_path / "run/cellnet/agent.sock").get("/v1/status")
        shown = re.search(r"failed at (.{19}): .*underlai", refused.value.what, re.DOTALL)
        assert shown is not None
        assert before <= datetime.fromisoformat(f"{shown.group(1)}+00:00") <= datetime.now(UTC)
        last_start.remove(tmp_path / "run/cellnet")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"what": "x"}'])
def test_a_damaged_note_of_a_failed_start_counts_for_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / last_start.NOTE).write_text(content)
    assert last_start.read(tmp_path) is None


def test_a_note_of_a_failed_start_needs_no_writable_folder(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    last_start.write(disk / "run", Failure("w", "h"))
    last_start.remove(disk / "run")
