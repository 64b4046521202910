"""docs/operate.md has every row of the status and every problem that a part of the agent can report; its commands run."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.model.status import AREAS
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, commands
from tests.testlib.names import leads
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/operate.md").read_text()
SHORTEST = 12  # characters of a text that a reader could look for
MAKERS = ("Problem", "as_problems")


# where the words are those of an error: a row of the page says what it is about
PASSED_ON = {
    "agent/attach/lasting_pins.py kernel",
    "agent/attach/published_ports.py cell",
    "agent/attach/reserved_ports.py envoy",
    "agent/attach/transaction.py kernel",
    "agent/cells/address_clashes.py dns",
    "agent/cells/address_clashes.py overlay",
    "agent/cells/announcement.py cell",
    "agent/cells/tunnel_health.py overlay",
    "agent/cells/underlay.py overlay",
    "agent/control/config_in_force.py config",
    "agent/control/metrics_listener.py agent",
    "agent/daemon/disk_space.py disk",
    "agent/daemon/firewall.py firewall",
    "agent/dns/asked_names.py dns",
    "agent/dns/liveness.py dns",
    "agent/dns/upstreams.py dns",
    "agent/envoy/connection.py envoy",
    "agent/envoy/liveness.py envoy",
    "agent/identity/leaves.py identity",
    "agent/insight/flows/followed.py kernel",
    "agent/insight/refusals/noted_packets.py kernel",
    "agent/loop/hop_calls.py dns",
    "agent/loop/mass_loss.py store",
    "agent/loop/names_table.py dns",
    "agent/loop/reports.py kernel",
    "agent/loop/reports.py overlay",
    "agent/policy/in_force.py policies",
    "agent/policy/tags_in_use.py tags",
    "agent/store/database.py store",
    "agent/store/etcd/names/index_store.py store",
    "agent/store/etcd/store.py store",
}


class Reported(NamedTuple):
    """One place in the code that reports problems; `texts` are the parts of its words that are always the same."""

    place: str
    area: str
    texts: tuple[str, ...]


def constants(node: ast.AST) -> Iterator[str]:
    """The texts in an expression."""
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def reported(path: Path) -> Iterator[Reported]:
    """Those of one file. Words that stand in a variable are those of its last assignment before."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for call in ast.walk(function):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Name)
                    and call.func.id in MAKERS
                    and len(call.args) > 1
                ):
                    area, what = call.args[0], call.args[1]
                    if isinstance(area, ast.Constant):
                        words = _assigned(function, what.id, call.lineno) if isinstance(what, ast.Name) else constants(what)
                        texts = tuple(text for each in words if len(text := each.strip(" ,:;%'\"()\n")) >= SHORTEST)
                        yield Reported(str(path.relative_to(ROOT)), str(area.value), texts)


def _assigned(function: ast.AST, name: str, line: int) -> list[str]:
    found = [
        each for each in ast.walk(function)
        if isinstance(each, ast.Assign) and each.lineno < line
        and isinstance(each.targets[0], ast.Name) and each.targets[0].id == name
    ]  # fmt: skip
    return list(constants(max(found, key=lambda each: each.lineno))) if found else []


def all_reported() -> set[Reported]:
    """Of the agent; what `cellnet doctor` finds besides has a page of its own."""
    files = [each for each in sorted((ROOT / "agent").rglob("*.py")) if "doctor" not in each.parts]
    return {each for path in files for each in reported(path)}


def section(area: str) -> str:
    """The page's part about one area."""
    found = re.search(rf"^### `{area}`\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"nothing on the area {area}"
    return found[1]


def test_every_area_and_every_problem_of_the_code_is_on_the_page() -> None:
    found = all_reported()
    assert len(found) > 60
    missing = [(each.area, text) for each in sorted(found) for text in each.texts if text not in section(each.area)]
    assert missing == []
    in_words_of_others = {f"{each.place} {each.area}" for each in found if not each.texts}
    assert in_words_of_others == PASSED_ON, "a row of the page for it first"
    assert {each.area for each in found} <= set(AREAS)
    for area in AREAS:
        assert "| says | means | do |" in section(area)


def test_every_row_of_the_status_is_on_the_page() -> None:
    tree = ast.parse((ROOT / "agent/cli/this_cell/screen.py").read_text())
    named = {
        str(call.args[0].value)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Row"
        and isinstance(call.args[0], ast.Constant)
    }  # fmt: skip
    assert len(named) > 15
    assert {row for row in named if f"| `{row}` |" not in PAGE} == set()


def test_every_alarm_is_on_the_page() -> None:
    alarms = re.findall(r"alert: (\w+)", (ROOT / "docs/monitor/alerts.yaml").read_text())
    assert len(alarms) > 8
    assert [each for each in alarms if f"`{each}`" not in PAGE] == []


def run(cell: CellUnderTest, block: str) -> dict[str, str]:
    """What each command of a block prints, as root on the cell."""
    found = {}
    for command in commands(block):
        done = cell.lab.run("sh", "-c", command.removeprefix("sudo "))
        assert done.code == 0, f"{command}: {done.out}{done.err}"
        found[command] = done.out
    return found


def test_the_commands_of_the_page_do_what_it_says(make_cell: Callable[..., CellUnderTest]) -> None:
    connecting, draining, removing = blocks("docs/operate.md", test="tests/cell/operation/test_operate.py")
    cell = make_cell()
    api, web = cell.run_app(API, port=8080, server=True), cell.run_app(WEB)
    cell.allow(WEB, API, "tcp/8080")
    eventually(lambda: leads(web, "api.shop.acme.cell.internal", api))
    said = run(cell, connecting)
    assert str(api.address) in said["cellnet exec web -- getent hosts api"]
    assert "hello" in said["cellnet exec web -- timeout 5 curl -sS http://api:8080/"]
    said = run(cell, draining)
    assert said["sudo cellnet drain web --timeout 10"].endswith("web is detached\n")
    assert "no attach is taken; nothing is left" in said["cellnet status"]
    said = run(cell, removing)
    assert "as before: setting net/ipv4/ip_forward 0\n" in said["sudo cellnet teardown"]
    assert not (cell.lab.root / "run/cellnet").exists()
