"""What only a policy in audit allows passes and is recorded; what another allows is not; what none allows is refused."""

import json
import shlex

from agent.client.answer import Fields
from dataplane.firewall.rights import container_chain
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.documents import blocks, commands
from tests.testlib.explained import explained
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, policies

TRIAL = f"name: trial, from: {WEB}, to: {API}, tcp: 9000-9002, udp: 53, mode: audit, until: 2099-01-01T00:00Z, note: a try"
FIRM = f"name: firm, from: same-space, to: {API}, tcp: 9001"


def recorded(cell: CellUnderTest) -> list[str]:
    """Ports that were passed by an audit, each as often as that was."""
    found = cell.client.get("/v1/denied", to=API).at("denied").each()
    return sorted(f"{each.text('protocol')}/{each.text('port')}" for each in found if each.text("reason") == "audit")


def edge(found: Fields, port: str) -> list[str | None]:
    """The modes of the edges from web to api that have a port."""
    ours = (each for each in found.each() if (each.text("from"), each.text("to")) == (WEB, API) and port in each.texts("ports"))
    return [each.text("mode") or None for each in ours]


def test_what_an_audit_alone_allows_passes_and_is_recorded_once_a_flow(cell: CellUnderTest) -> None:
    web, api, other = cell.containers(WEB, API, OTHER)
    cell.policy_file("shop.yaml", policies(TRIAL, FIRM))
    for port in (9000, 9001, 9003):
        api.listen(port)
    asker = web.datagrams()
    for _ in range(5):
        asker.sendto(b"x", (str(api.address), 53))
    assert [web.connect(api, port) for port in (9000, 9001, 9003)] == [Connected, Connected, Refused]
    assert other.connect(api, 9000) is Refused
    eventually(lambda: recorded(cell) == ["tcp/9000", "udp/53"])
    eventually(lambda: f"{WEB} -> {API} tcp/9000 (audit) once" in cell.cellnet("status").out)
    assert "passed, and would be refused" in cell.cellnet("flows", "--denied", "--port", "tcp/9000", "--app", WEB).out
    told = explained(cell, WEB, API, "tcp/9000")
    assert "in audit alone: it passes, and is recorded as what would be refused" in told
    assert f"ok  kernel: lets it into api: {container_chain(api.address)}-audit" in told
    assert "refused: passed here once, the last at" in told
    assert told.endswith("it works")
    assert 'cellnet_audited_total{protocol="tcp"} 1.0' in cell.cellnet("metrics").out


def test_it_is_shown_as_an_audit_wherever_policies_are(cell: CellUnderTest) -> None:
    cell.containers(WEB, API, OTHER)
    path = cell.policy_file("shop.yaml", policies(TRIAL, FIRM))
    by_trial, by_firm = (
        json.loads(cell.cellnet("policy", "check", WEB, API, port, "--json").out) for port in ("tcp/9000", "tcp/9001")
    )
    assert (by_trial["by"], by_trial["mode"], by_firm["by"], by_firm["mode"]) == ("trial", "audit", "firm", None)
    assert "in audit alone" in cell.cellnet("policy", "check", WEB, API, "tcp/9000").out
    assert "in audit alone" in cell.cellnet("explain", WEB, API, "tcp/9000", code=1).out
    trial, _ = (line for line in cell.cellnet("policy", "list").out.splitlines() if API in line)
    assert "  audit  " in trial
    matrix = cell.client.get("/v1/policies/matrix", app=WEB)
    assert [edge(matrix, f"tcp/{port}") for port in (9000, 9001, 9002)] == [["audit"], [None], ["audit"]]
    assert f"{WEB},{API},tcp/9002 (audit)" in cell.cellnet("policy", "matrix", "--format", "csv").out
    path.write_text(policies(TRIAL.replace(", mode: audit", ""), FIRM))
    assert cell.cellnet("policy", "list").out.count("audit") == 0


def test_flows_live_on_where_an_audit_ends_in_a_policy_and_are_cut_where_it_ends_in_none(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB, name="live-web"), cell.run_app(API, name="live-api")
    cell.cellnet("policy", "allow", WEB, API, "tcp/9005", "tcp/9006", "--audit", "--name", "live")
    kept, cut = pair(web, api, 9005), pair(web, api, 9006)
    cell.cellnet("policy", "allow", WEB, API, "tcp/9005", "--name", "live")
    assert is_alive(*kept)
    assert all(map(is_reset, cut))
    assert web.connect(api, 9006) is Refused
    cell.cellnet("policy", "delete", "live")
    assert all(map(is_reset, kept))


def test_what_it_recorded_is_suggested_as_a_policy_in_force(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB, name="said-web"), cell.run_app(API, name="said-api")
    api.listen(9010)
    cell.cellnet("policy", "allow", WEB, API, "tcp/9010", "--audit", "--name", "said")
    assert web.connect(api, 9010) is Connected
    eventually(lambda: "9010" in cell.cellnet("policy", "suggest", "--app", WEB).out)
    (line,) = (each for each in cell.cellnet("policy", "suggest", "--app", WEB).out.splitlines() if f"to: {API}" in each)
    assert "passed by an audit" in line
    assert "mode" not in line


def test_the_page_shows_commands_that_work(cell: CellUnderTest) -> None:
    cell.containers(WEB, API)
    (block,) = blocks("docs/policies.md", test="tests/cell/policies/test_audit.py")
    for command in commands(block):
        cell.cellnet(*shlex.split(command)[1:])
