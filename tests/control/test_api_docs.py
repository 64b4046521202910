"""docs/api.md: its examples run, one after the other, and answer with the fields that it shows; no address is left out."""

import json
import re
import shlex
import subprocess
from pathlib import Path

from aiohttp import web

from tests.testlib.fakes.cell import FakeCell, routes_of, serving

PAGE = Path(__file__).parents[2] / "docs/api.md"
EXAMPLE = re.compile(r"^\$ (curl .*)\n(.*)$", re.MULTILINE)


def shape(value: object) -> object:
    """Field names and kinds, without the values. Empty arrays and nulls fit everything."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items() if name not in ("environment", "reverse")}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def test_the_examples_answer_what_the_page_shows(tmp_path: Path) -> None:
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) > 12
    with serving(FakeCell(), tmp_path / "agent.sock") as path:
        for command, shown in examples:
            argv = shlex.split(command.replace("/run/cellnet/agent.sock", str(path)))
            got = subprocess.run(argv, capture_output=True, check=True, timeout=30, text=True).stdout
            if shown.startswith("#"):  # metrics are lines, not JSON
                assert got.startswith(shown), command
            else:
                assert shape(json.loads(got)) == shape(json.loads(shown)), command


def test_every_address_is_on_the_page() -> None:
    app = web.Application()
    app.add_routes(routes_of(FakeCell()))
    page = PAGE.read_text()
    for route in app.router.routes():
        if route.method != "HEAD":
            assert route.resource is not None
            assert f"`{route.method} {route.resource.canonical}`" in page
