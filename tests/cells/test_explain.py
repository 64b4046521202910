"""Asked on any cell, `explain` knows the policies of all, and says what it cannot see there instead of taking it for well."""

import socket
from collections.abc import Sequence

import pytest

from host.namespace import run_in
from tests.cells.conftest import Place
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.explained import explained
from tests.testlib.failures import suspended
from tests.testlib.node import Connected
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB, web_to_api


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("service_env_prefixes=[TO_]",)


def test_policies_of_all_cells_are_told_on_every_cell_and_what_is_seen_on_one_alone_is_said_to_be_so(
    cells: CellsUnderTest, place: Place
) -> None:
    web, api = place(1, WEB), place(2, API)
    assert f"no policy lets {WEB} reach {API} on tcp/9000" in explained(cells[1], WEB, API, "tcp/9000")
    cells[1].policy_file("here.yaml", web_to_api("tcp: 9000"))
    denied = cells[1].cellnet("policy", "check", WEB, API, "tcp/9000", code=1).err
    assert "here.yaml:2) is a file's of this cell, and judges what runs here alone" in denied
    path = cells[2].policy_file("shop.yaml", web_to_api("tcp: 9000"))
    by = f"allowed by shop.yaml:2 (cell-2:{path}:2)"
    for each in (1, 3):
        eventually(lambda each=each: f"ok  policy: {by}" in explained(cells[each], WEB, API, "tcp/9000"))  # type: ignore[misc]
        assert by in cells[each].cellnet("policy", "check", WEB, API, "tcp/9000").out
        assert "tcp/9000" in cells[each].cellnet("policy", "matrix", "--app", API).out
    environment = cells[1].lab.root / "run/cellnet/env" / web.name
    eventually(lambda: "TO_api=api.shop.acme.cell.internal" in environment.read_text())
    for each in (1, 2, 3):
        found = explained(cells[each], WEB, API, "tcp/9000")
        said = "" if each == 2 else ", as cell-2 says"
        assert f"NO  listener: nothing in api serves tcp/9000{said}" in found
        assert "ok  kernel: lets it into api: CELLNET-" in found
    assert "cell-2 is alive, and its tunnel" in explained(cells[1], WEB, API, "tcp/9000")
    unserved = cells[1].cellnet("explain", WEB, API, "tcp/9000", "--try", code=1).out
    assert "another program's rules" not in unserved
    api.listen(9000)
    for each in (1, 2, 3):
        assert explained(cells[each], WEB, API, "tcp/9000").endswith("it works")
    assert web.connect(api, 9000) is Connected
    place(3, API, name="far")
    not_there = f"NO  policy: no policy lets {WEB} reach the instances of {API} on cell-3"
    eventually(lambda: not_there in explained(cells[1], WEB, API, "tcp/9000"))
    cells[2].remove_policy_file("shop.yaml")
    eventually(lambda: "NO  policy: no policy lets" in explained(cells[1], WEB, API, "tcp/9000"))
    cells[1].remove_policy_file("here.yaml")
    eventually(lambda: "TO_" not in environment.read_text())


def test_what_stands_in_the_way_on_another_cell_alone_is_told_here(cells: CellsUnderTest, place: Place) -> None:
    place(1, WEB)
    api = place(2, API)
    path = cells[2].policy_file("shop.yaml", web_to_api("tcp: 9002"))
    api.keep(run_in(api.pin, lambda: socket.create_server(("127.0.0.1", 9002))))
    alone = "NO  listener: api serves tcp/9002 on 127.0.0.1 only, where nobody else reaches it, as cell-2 says"
    eventually(lambda: f"cell-2:{path}:2" in explained(cells[1], WEB, API, "tcp/9002"))
    assert f"{alone}\n      have the app listen on 0.0.0.0" in explained(cells[1], WEB, API, "tcp/9002")
    with suspended(cells[2].agent_pid):
        silent = explained(cells[1], WEB, API, "tcp/9002")
        assert "--  cell-2: what cell-2 alone sees is not known: no answer within 2 s" in silent
        assert silent.endswith("nothing that is seen on this cell stands in the way")
    cells[2].wait_well()
    eventually(lambda: alone in explained(cells[1], WEB, API, "tcp/9002"))
    cells[2].remove_policy_file("shop.yaml")


def drop(cell: CellUnderTest, packets: str) -> None:
    """As a firewall of the underlay would."""
    chain = "{ type filter hook input priority -400; }"
    cell.host.run("nft", f"add table ip blocked; add chain ip blocked input {chain}; add rule ip blocked input {packets} drop")


def test_a_way_in_is_told_by_the_cell_that_publishes_it_and_needs_no_tunnel(
    cells: CellsUnderTest, place: Place, request: pytest.FixtureRequest
) -> None:
    guest, app = "203.0.113.9", "acme/shop/front"
    place(2, app, 9004, name="front-here")
    cells[1].cellnet("policy", "allow", "203.0.113.0/24", app, "tcp/9004", "--name", "in")
    request.addfinalizer(lambda: cells[1].cellnet("policy", "delete", "in"))
    closed = f"NO  published: no port of this host leads to tcp/9004 of {app}: it is not published, as cell-2 says"
    eventually(lambda: closed in explained(cells[1], guest, app, "tcp/9004"))
    shown = cells[3].run_app(app, name="front-far", port=9004, server=True, options=["--publish", "7004:9004"])
    request.addfinalizer(shown.stop)
    drop(cells[3], "udp dport 4789")
    request.addfinalizer(lambda: cells[3].host.run("nft", "delete", "table", "ip", "blocked"))
    silent = "--  cell-3: the tunnel to cell-3 does not answer"
    eventually(lambda: silent in explained(cells[1], guest, app, "tcp/9004"), seconds=60)
    found = explained(cells[1], guest, app, "tcp/9004")
    assert f"ok  published: a port of this host leads to tcp/9004 of {app}, as cell-3 says" in found
    assert closed.replace("NO", "--") in found
    assert found.endswith("it works")


def test_tunnels_that_are_silent_or_lose_large_packets_are_told(cells: CellsUnderTest, place: Place) -> None:
    place(1, WEB)
    place(2, API, name="near")
    place(3, API, name="far")
    try:
        drop(cells[2], "udp dport 4789")
        drop(cells[3], "udp dport 4789 ip length > 1000")
        silent = "NO  cell-2: the tunnel to cell-2 does not answer"
        small = "NO  cell-3: the tunnel to cell-3 loses packets of full size"
        eventually(lambda: {silent, small} <= set(explained(cells[1], WEB, API, "tcp/9000").splitlines()), seconds=60)
    finally:
        for each in (cells[2], cells[3]):
            each.host.run("nft", "delete", "table", "ip", "blocked")
