"""What a declarative tool sends, sent as it is on the page, twice: the second time changes nothing."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.testlib.cell import CellUnderTest
from tests.testlib.node import Connected, Refused
from tests.testlib.shop import API, WEB

PAGE = Path(__file__).parents[3] / "docs/api.md"
TASKS = re.compile(r"<!-- tests/cell/policies/test_declared_objects.py plays this -->\n```yaml\n(.*?)```", re.DOTALL)
POLICY = "/v1/policies/web-to-api"


def tasks() -> Iterator[dict[str, Any]]:
    """What each asks of Ansible's `uri`."""
    (found,) = TASKS.findall(PAGE.read_text())
    for task in yaml.safe_load(found):
        yield task["ansible.builtin.uri"]


def curl(cell: CellUnderTest, method: str, address: str, body: object = None) -> tuple[int, Any]:
    given = [] if body is None else ["-d", json.dumps(body)]
    url = f"http://cell{address.removeprefix('http://cell')}"
    argv = ["curl", "-s", "-w", "\n%{http_code}", "--unix-socket", str(cell.client.path), "-X", method, *given, url]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    answer, _, code = done.stdout.strip().rpartition("\n")
    return int(code), json.loads(answer)


def test_the_tasks_of_the_page_may_be_sent_again(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    api.listen(8080)
    assert web.connect(api, 8080) is Refused
    for _ in range(2):
        for task in tasks():
            code, found = curl(cell, task["method"], task["url"], task.get("body"))
            wanted = task["status_code"]
            assert code in (wanted if isinstance(wanted, list) else [wanted]), found
        assert web.connect(api, 8080) is Connected
        assert len(json.loads(cell.cellnet("policy", "list", "--json").out)) == 1
    assert curl(cell, "DELETE", POLICY)[0] == 200
    assert curl(cell, "DELETE", POLICY)[0] == 404
    assert curl(cell, "GET", POLICY)[0] == 404
    assert web.connect(api, 8080) is Refused


def test_what_is_shown_may_be_sent_back_and_a_mistake_is_told(cell: CellUnderTest) -> None:
    rule = {"from": [WEB], "to": API, "tcp": [8080, "9000-9010"], "note": "declared", "until": "2099-12-31T18:00Z"}
    code, made = curl(cell, "PUT", POLICY, rule)
    assert (code, made["tcp"], made["note"], made["origin"]["source"]) == (200, ["8080", "9000-9010"], "declared", "store")
    assert curl(cell, "GET", POLICY) == (200, made)
    assert curl(cell, "PUT", POLICY, made) == (200, made)
    assert curl(cell, "PUT", POLICY, {**rule, "tcp": [1]})[1]["tcp"] == ["1"]
    code, refused = curl(cell, "PUT", POLICY, {"from": WEB, "to": API, "tpc": 80})
    assert code == 400
    assert "unknown key 'tpc'" in refused["error"]["what"]
    assert "give one name" in curl(cell, "PUT", POLICY, {**rule, "name": "other"})[1]["error"]["hint"]
    assert curl(cell, "GET", POLICY)[1]["tcp"] == ["1"], "a mistake changes nothing"
