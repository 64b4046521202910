"""What a cell did and saw is found again, with the process that asked for it, over restarts of its agent."""

import shlex

from agent.client.answer import Fields
from agent.insight.history.history import UNFINISHED
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, commands
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB, web_to_api


def told(cell: CellUnderTest, area: str) -> list[Fields]:
    return list(cell.client.get("/v1/history", area=area).at("events").each())


def tells(cell: CellUnderTest, area: str, words: str) -> bool:
    return any(words in each.text("what") for each in told(cell, area))


def test_changes_refusals_problems_and_repairs_are_told_over_a_restart(cell: CellUnderTest) -> None:
    cell.run_app(API)
    cell.cellnet("policy", "allow", WEB, API, "tcp/8080", "--name", "web-to-api")
    shown = cell.cellnet("events", "--store").out
    assert "put web-to-api  uid 0, " in shown
    cell.cellnet("attach", "--app", WEB, "--netns", "/nonexistent", "--name", "web", code=1)
    cell.policy_file("bad.yaml", "policies:\n- {from: acme, to: acme/shop/api, tcp: 1}\n", sync=False)
    eventually(lambda: tells(cell, "problems", "bad.yaml:2"))
    cell.remove_policy_file("bad.yaml")
    eventually(lambda: tells(cell, "problems", "over, policies: "))
    cell.policy_file("shop.yaml", web_to_api("tcp: 8080"))
    eventually(lambda: tells(cell, "policies", "shop.yaml: added "))
    cell.host.run("iptables-nft", "-F", "CELLNET-FORWARD")
    eventually(lambda: tells(cell, "repairs", "chains"))
    eventually(lambda: "chains" in (cell.lab.root / "var/lib/cellnet/events/events.jsonl").read_text())
    cell.kill("agent", again=True)
    cell.wait_well()
    eventually(lambda: tells(cell, "agent", UNFINISHED))
    (change,) = (each for each in told(cell, "policies") if each.text("what") == "policy put into the store: web-to-api")
    assert change.at("by").text("uid") == "0"
    assert "cellnet" in change.at("by").text("command") or "python" in change.at("by").text("command")
    assert tells(cell, "attach", "refused, attach: web: ")
    assert tells(cell, "problems", "bad.yaml:2")
    assert tells(cell, "repairs", "chains")
    assert tells(cell, "certificates", f"certificate issued for api ({API}), until ")


def test_the_page_shows_commands_that_work(cell: CellUnderTest) -> None:
    (block,) = blocks("docs/operate.md", test="tests/cell/insight/test_events.py")
    for command in commands(block):
        cell.cellnet(*shlex.split(command)[1:])
    eventually(lambda: "started, pid" in cell.cellnet("events", "--area", "agent").out)
