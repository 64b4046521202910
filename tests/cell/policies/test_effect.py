"""What a change would do, asked of a real agent: it says what comes about when it is made, and changes nothing itself."""

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive
from tests.testlib.documents import blocks, commands
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.shop import API, OTHER, WEB, policies

PAGE = "docs/policies.md"
RULE = f"from: {WEB}, to: {API}, tcp: 9000"


@pytest.fixture
def shop(cell: CellUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of policies that is nowhere yet, in the folder of the commands."""
    cell.containers(WEB, API, OTHER)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shop.yaml"
    path.write_text(policies(RULE, f"from: same-space, to: {OTHER}, udp: 53"))
    return path


def test_a_file_that_would_be_dropped_in(cell: CellUnderTest, shop: Path) -> None:
    web, api = (cell.run_app(app, name=f"more-{app[-3:]}") for app in (WEB, API))
    api.listen(9000)
    found = cell.cellnet("policy", "diff", str(shop)).out
    assert f"+ {WEB} -> {API}  tcp/9000\n" in found
    assert f"+ {API} -> {OTHER}  udp/53\n" in found
    assert web.connect(api, 9000) is Refused, "it is only asked"
    cell.policy_file("shop.yaml", shop.read_text())
    assert web.connect(api, 9000) is Connected
    assert cell.cellnet("policy", "diff", str(shop)).out == "nothing changes\n"
    wider = f"from: {WEB}, to: {API}, tcp: 9000-9001"
    cell.policy_file("shop.yaml", policies(wider, f"from: same-space, to: {OTHER}, udp: 53"))
    live, over = pair(web, api, 9001), pair(web, api, 9001)
    for each in over:
        each.close()
    shop.write_text(policies(wider))
    found = cell.cellnet("policy", "diff", str(shop)).out
    assert f"- {API} -> {OTHER}  udp/53\n" in found
    assert "cuts" not in found
    (folder := shop.parent / "new").mkdir()
    found = cell.cellnet("policy", "diff", str(folder)).out
    assert f"- {WEB} -> {API}  tcp/9000-9001\n" in found
    assert "of this cell:\n" in found
    foreseen = [line.strip() for line in found.splitlines() if line.startswith("  ")]
    assert f"1 connection of {WEB} ({web.address}) to {API} ({api.address}) tcp/9001" in foreseen
    assert is_alive(*live), "it is only asked"
    cell.policy_file("shop.yaml", "policies: []\n")
    assert "; ".join(foreseen) == next(cell.status().at("last_cuts").each()).text("what")
    shop.write_text("policies: [{from: acme/shop/web}]")
    assert "shop.yaml:1:12: 'to' is missing" in cell.cellnet("policy", "diff", str(shop), code=1).err
    assert "cannot be read" in cell.cellnet("policy", "diff", str(shop.parent / "none.yaml"), code=1).err


def test_a_folder_is_validated_beside_what_the_cluster_has(cell: CellUnderTest, shop: Path) -> None:
    shop.write_text(policies(f"name: twin, {RULE}", f"from: acme/shop/wbe, to: {API}, tcp: 1"))
    cell.policy_file("shop.yaml", shop.read_text())
    cell.cellnet("policy", "allow", "same-space", API, "tcp/9000-9010", "--name", "twin")
    found = cell.cellnet("policy", "validate", "--cluster", str(shop.parent))
    assert found.out == f"{shop}: 2 policies\n"
    assert found.err.splitlines() == [
        f"warning: {shop}:2:3: twin is the name of another policy, too (store)",
        f"warning: {shop}:2:3: twin allows nothing that twin (store) does not allow",
        f"warning: {shop}:3:3: nothing of acme/shop/wbe runs here or is named; did you mean {WEB}?",
    ]
    assert cell.cellnet("policy", "validate", "--cluster", "--strict", str(shop), code=1).out == found.out
    assert cell.cellnet("policy", "validate", str(shop)).err == ""
    shop.write_text(policies(RULE, "from: 17"))
    assert "shop.yaml:3:" in cell.cellnet("policy", "validate", "--cluster", str(shop), code=1).err


def test_the_store_before_it_is_changed(cell: CellUnderTest, shop: Path) -> None:
    found = json.loads(cell.cellnet("policy", "apply", "-f", str(shop), "--dry-run", "--json").out)
    assert {"from": WEB, "to": API, "ports": ["tcp/9000"], "mode": None} in found["opens"]
    assert json.loads(cell.cellnet("policy", "list", "--json").out) == []
    cell.cellnet("policy", "apply", "-f", str(shop))
    cell.cellnet("policy", "allow", "zeta/shop/web", "zeta/shop/api", "tcp/1", "--name", "zeta")
    assert [each["to"] for each in json.loads(cell.cellnet("policy", "list", "--to", API, "--json").out)] == [API]
    assert len(json.loads(cell.cellnet("policy", "list", "--app", OTHER, "--json").out)) == 1
    assert "- zeta/shop/web -> zeta/shop/api  tcp/1\n" in cell.cellnet("policy", "delete", "zeta", "--dry-run").out
    matrix = cell.cellnet("policy", "matrix", "--format", "csv").out.splitlines()
    assert matrix[0] == "from,to,port"
    assert f"{WEB},{API},tcp/9000" in matrix
    assert f'"{WEB}" -> "{API}" [label="tcp/9000"];' in cell.cellnet("policy", "matrix", "--format", "dot", "--app", API).out
    assert "nobody is there to be asked" in cell.cellnet("policy", "delete", "--space", "acme/shop", code=1).err
    assert len(json.loads(cell.cellnet("policy", "list", "--json").out)) == 3
    cell.cellnet("policy", "delete", "--space", "acme/shop", "--yes")
    assert [each["name"] for each in json.loads(cell.cellnet("policy", "list", "--json").out)] == ["zeta"]


@pytest.mark.usefixtures("shop")
def test_the_page_shows_commands_that_work(cell: CellUnderTest) -> None:
    (block,) = blocks(PAGE, test="tests/cell/policies/test_effect.py")
    for command in commands(block):
        cell.cellnet(*shlex.split(command)[1:])
    assert os.listdir() == ["shop.yaml"]
