"""Whatever a cell refuses is told with who was refused what, and why; what passes leaves no trace."""

import json
import shlex
from ipaddress import IPv4Address

from agent.client.answer import Fields
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, commands
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, web_to_api
from tests.testlib.status import name_of


def denied(cell: CellUnderTest, **query: str) -> list[Fields]:
    return list(cell.client.get("/v1/denied", **query).at("denied").each())


def tells(cell: CellUnderTest, source: str, to: str, port: str, reason: str) -> bool:
    found = [
        (each.text("from"), each.text("to"), f"{each.text('protocol')}/{each.text('port')}", each.text("reason"))
        for each in denied(cell)
    ]
    return (source, to, port, reason) in found


def test_what_no_policy_allows_is_told_by_apps_and_what_passes_is_not(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("tcp: 9000"))
    api.listen(9000)
    assert web.connect(api, 9000) is Connected
    assert web.connect(api, 9001) is Refused
    web.udp(api, 53, seconds=0.2)
    eventually(lambda: tells(cell, WEB, API, "tcp/9001", "policy"))
    eventually(lambda: tells(cell, WEB, API, "udp/53", "policy"))
    assert not [each for each in denied(cell) if each.text("port") == "9000"]
    assert [each.text("port") for each in denied(cell, app=API, port="tcp/9001")] == ["9001"]
    assert denied(cell, app=OTHER) == []
    (tally,) = cell.client.get("/v1/denied/pairs", to=API, port="tcp/9001").at("pairs").each()
    assert tally.text("count") == "1"
    eventually(lambda: f"{WEB} -> {API} tcp/9001 (policy)" in cell.cellnet("status").out)


def test_each_reason_has_its_word(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB)
    nobody = IPv4Address(int(web.address) + 100)
    web.connect(nobody, 80)
    web.connect(IPv4Address("192.0.2.77"), 443)
    web.connect(cell.lab.address.ip, 22)
    eventually(lambda: tells(cell, WEB, str(nobody), "tcp/80", "nobody"))
    eventually(lambda: tells(cell, WEB, "192.0.2.77", "tcp/443", "egress"))
    eventually(lambda: tells(cell, WEB, str(cell.lab.address.ip), "tcp/22", "host"))


def test_the_command_shows_them_and_follows(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    web.connect(api, 9002)
    eventually(lambda: tells(cell, WEB, API, "tcp/9002", "policy"))
    shown = cell.cellnet("flows", "--denied", "--port", "tcp/9002").out
    assert f"{WEB} ({web.address})  {API} ({api.address})  tcp/9002  policy" in shown
    (line,) = cell.cellnet("flows", "--denied", "--port", "tcp/9002", "--json").out.splitlines()
    assert json.loads(line)["cell"] == name_of(cell)


def test_the_page_shows_commands_that_work(cell: CellUnderTest) -> None:
    (block,) = blocks("docs/policies.md", test="tests/cell/insight/test_denied.py")
    for command in commands(block):
        cell.cellnet(*shlex.split(command)[1:])
