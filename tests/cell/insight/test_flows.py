"""What flows on a cell is listed by apps, with the policy that allows it, and told as it begins and comes to an end."""

import json
import shlex
from pathlib import Path

from lab import children
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, commands
from tests.testlib.event_stream import Event, EventStream
from tests.testlib.node import Refused, pair
from tests.testlib.patience import becomes, eventually
from tests.testlib.shop import API, OTHER, WEB, web_to_api

CONNTRACK_GROUPS = 0b111  # new, changed, gone


def following(cell: CellUnderTest, query: str = "") -> EventStream:
    return EventStream(cell.client.path, query)


def listed(cell: CellUnderTest, **query: str) -> list[Event]:
    found = cell.client.get("/v1/flows", **query).at("flows").each()
    return [dict(each.fields) for each in found]


def subscriptions(cell: CellUnderTest) -> int:
    """How many sockets in the cell's namespace hear of conntrack's events."""
    lines = Path(f"/proc/{cell.agent_pid}/net/netlink").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(each[1] == "12" and bool(int(each[3], 16) & CONNTRACK_GROUPS) for each in fields)


def test_a_flow_is_listed_by_apps_with_what_allows_it(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    path = cell.policy_file("shop.yaml", web_to_api("name: shop, tcp: 9000"))
    api.listen(9000)
    web.dial(api, 9000).sendall(b"x")
    eventually(lambda: listed(cell, app=WEB, to=API, port="tcp/9000"))
    (flow,) = listed(cell, app=WEB, to=API, port="tcp/9000")
    assert (flow["from"], flow["from_address"], flow["to"], flow["to_address"]) == (
        WEB, str(web.address), API, str(api.address),
    )  # fmt: skip
    assert (flow["protocol"], flow["port"], flow["state"], flow["tunnel"]) == ("tcp", 9000, "open", False)
    assert (flow["policy"], flow["origin"]) == ("shop", f"{path}:2")
    assert listed(cell, app=OTHER) == []
    shown = cell.cellnet("flows", "--to", API)
    assert f"{WEB} ({web.address})  {API} ({api.address})  tcp/9000  open" in shown.out
    assert "is not counted" in shown.err
    (line,) = cell.cellnet("flows", "--port", "tcp/9000", "--json").out.splitlines()
    assert json.loads(line)["policy"] == "shop"
    cell.policy_file("shop.yaml", web_to_api("name: renamed, tcp: 9000"))
    becomes(["renamed"], lambda: [each["policy"] for each in listed(cell, port="tcp/9000")])


def test_what_begins_ends_and_is_refused_is_told_as_it_happens(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("name: shop, tcp: 9000"))
    api.listen(9000)
    with following(cell) as told:
        assert web.connect(api, 9001) is Refused
        web.dial(api, 9000)
        eventually(lambda: told.of("new", **{"from": WEB}, to=API, port=9000, policy="shop", state="opening"))
        eventually(lambda: told.of("refused", **{"from": WEB}, to=API, port=9001, reason="policy"))
        assert not told.of("ended")


def test_a_connection_that_is_closed_has_ended_at_once_and_once(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API, server=True)
    cell.policy_file("shop.yaml", web_to_api("tcp: 8080"))
    cell.host.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1")
    with following(cell, "?kind=ended") as told:
        web.get(api, 8080)
        eventually(lambda: told.of("ended", to=API, port=8080, state="closed"))
        web.get(api, 8080)
        eventually(lambda: len({each["id"] for each in told.of("ended")}) == 2)
        eventually(lambda: "dport=8080" not in cell.host.run("conntrack", "-L", "-p", "tcp"))
        web.get(api, 8080)
        eventually(lambda: len({each["id"] for each in told.of("ended")}) == 3)
        assert len(told.of("ended")) == 3


def test_a_flow_that_was_there_before_is_told_as_ended_too_but_not_as_begun(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("tcp: [9000, 9001]"))
    becomes(0, lambda: subscriptions(cell))  # or what another has followed until now is told still
    (asking, answering), (cut, _) = pair(web, api, 9000), pair(web, api, 9001)
    with following(cell) as told:
        eventually(lambda: listed(cell, port="tcp/9000"))
        asking.close()
        answering.close()
        cell.policy_file("shop.yaml", web_to_api("tcp: 9000"))
        eventually(lambda: told.of("cut", port=9001))
        eventually(lambda: told.of("ended", **{"from": WEB}, to=API, port=9000, state="closed"))
        assert not told.of("new")
        assert not told.of("ended", port=9001)
    cut.close()


def test_what_a_policys_end_cuts_is_told_as_cut_and_not_as_ended(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("tcp: 9000"))
    api.listen(9000)
    with following(cell, "?kind=new,ended,cut") as told, following(cell, "?kind=cut") as others:
        web.dial(api, 9000)
        eventually(lambda: told.of("new", port=9000))
        cell.policy_file("shop.yaml", web_to_api("tcp: 9001"))
        for each in (told, others):
            eventually(lambda each=each: each.of("cut", **{"from": WEB}, to=API, port=9000))  # type: ignore[misc]
        web.connect(api, 9001)
        eventually(lambda: told.of("new", port=9001) or told.of("ended"))
        assert not [each for each in told.of("ended") if each["port"] == 9000]
        assert len(told.of("cut")) == 1


def test_the_kernel_is_asked_for_events_only_while_somebody_follows_flows(cell: CellUnderTest) -> None:
    becomes(0, lambda: subscriptions(cell))
    with following(cell, "?kind=cut,refused"):
        assert subscriptions(cell) == 0
        with following(cell), following(cell):
            assert subscriptions(cell) == 1
        becomes(0, lambda: subscriptions(cell))


def test_the_command_follows(cell: CellUnderTest, tmp_path: Path) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    path = cell.policy_file("shop.yaml", web_to_api("name: shop, tcp: 9000"))
    api.listen(9000)
    log = tmp_path / "follow"
    process = children.start([*children.CELLNET, "flows", "-f", "--to", API], netns=cell.lab.netns, root=cell.lab.root, log=log)
    try:
        eventually(lambda: subscriptions(cell))
        web.dial(api, 9000)
        web.connect(api, 9001)
        ends = f"{WEB} ({web.address})  {API} ({api.address})"
        eventually(lambda: f"  new      {ends}  tcp/9000  shop ({path}:2)" in log.read_text())
        eventually(lambda: f"  refused  {ends}  tcp/9001  policy" in log.read_text())
    finally:
        process.kill()
        process.wait()
    becomes(0, lambda: subscriptions(cell))


def test_the_page_shows_commands_that_work(cell: CellUnderTest) -> None:
    (block,) = blocks("docs/policies.md", test="tests/cell/insight/test_flows.py")
    for command in commands(block):
        cell.cellnet(*shlex.split(command)[1:])
