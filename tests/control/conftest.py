"""The control API as a user of curl sees it."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.testlib.fakes.cell import FakeCell, serving


@dataclass
class Curl:
    """The API as a user of curl sees it."""

    path: Path
    cell: FakeCell

    def __call__(self, method: str, address: str, body: Any = None, raw: bytes | None = None) -> tuple[int, Any]:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        argv = ["curl", "-s", "--unix-socket", str(self.path), "-X", method, "-w", "\n%{http_code}", f"http://cell{address}"]
        given = [] if data is None else ["--data-binary", "@-"]
        out = subprocess.run([*argv, *given], input=data, capture_output=True, timeout=30).stdout.decode()
        text, _, code = out.rpartition("\n")
        return int(code), json.loads(text)


@pytest.fixture
def curl(tmp_path: Path) -> Iterator[Curl]:
    cell = FakeCell()
    with serving(cell, tmp_path / "agent.sock", group="daemon") as path:
        yield Curl(path, cell)
