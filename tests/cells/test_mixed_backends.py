"""Cells whose rules are written by different backends: each understands what the other says of a packet.

Cells 1 and 3 have iptables-legacy, cell 2 iptables-nft, so the pairs below are all that there are besides two of nft.
"""

import pytest

from lab.cell import Cell
from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.connections import Flow, LiveConnections
from tests.testlib.failures import suspended
from tests.testlib.instance import TLS_PORT
from tests.testlib.mixed_cell import BACKENDS, MixedCell
from tests.testlib.node import Connected, Refused, connect_at_once, one_datagram, reachable_ports
from tests.testlib.shop import API, OTHER, WEB, policies, web_to_api

pytestmark = pytest.mark.release
pairs = pytest.mark.parametrize(
    ("here", "there"), [(1, 3), (1, 2), (2, 3)], ids=["legacy to legacy", "legacy to nft", "nft to legacy"]
)


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return MixedCell


@pairs
def test_exactly_what_policies_allow_passes(cells: CellsUnderTest, place: Place, here: int, there: int) -> None:
    web, other, api = place(here, WEB, 8080), place(here, OTHER), place(there, API, 8079, 8080, 8081)
    assert (
        reachable_ports(web, api, (8080, TLS_PORT))
        == reachable_ports(api, web, (8080,))
        == reachable_ports(web, api, (8080,), over="udp")
        == set()
    )
    cells[here].policy_file("elsewhere.yaml", web_to_api("tcp: any, udp: any"))
    cells[there].policy_file("shop.yaml", web_to_api("tcp: [8080, 61443]", "udp: 8080-8081"))
    assert reachable_ports(web, api, (8079, 8080, 8081, TLS_PORT)) == {8080, TLS_PORT}
    assert reachable_ports(web, api, (8079, 8080, 8081), over="udp") == {8080, 8081}
    assert reachable_ports(other, api, (8079, 8080, TLS_PORT)) == reachable_ports(api, web, (8080, TLS_PORT)) == set()
    assert web.get(api, 8080) == web.get_tls(api) == f"hello {web.address}\n"
    cells.allow("same-space", "acme/shop/*", "tcp/8079")
    assert reachable_ports(other, api, (8079, 8080, TLS_PORT)) == {8079}


@pairs
def test_a_first_instance_passes_at_its_first_packet(cells: CellsUnderTest, place: Place, here: int, there: int) -> None:
    api, sources = place(there, API, 8080), [f"acme/{here}-{there}/app-{number}" for number in range(2)]
    cells[there].policy_file("new.yaml", policies(f"from: [{', '.join(sources)}], to: {API}, tcp: 8080, udp: 8080"))
    with suspended(cells[there].agent_pid):
        assert connect_at_once(place(here, sources[0]), api, 8080) is Connected
        assert one_datagram(place(here, sources[1]), api, 8080) is Connected


@pairs
def test_both_ends_of_exactly_the_revoked_flows_see_it(cells: CellsUnderTest, place: Place, here: int, there: int) -> None:
    web, api = place(here, WEB), place(there, API)
    cells[there].policy_file("kept.yaml", web_to_api("tcp: 9001", "udp: 9001"))
    cells.allow(WEB, API, "tcp/9000", "udp/9000", at=here)
    kept = [Flow(web, api, 9001), Flow(web, api, 9001, udp=True)]
    gone = [Flow(web, api, 9000), Flow(web, api, 9000, udp=True)]
    cells[2].cellnet("policy", "delete", WEB, API, "tcp/9000", "udp/9000")
    assert all(each.is_cut() for each in gone)
    assert all(each.lives() for each in kept)
    assert connect_at_once(web, api, 9000) is Refused


@pairs
def test_connections_live_through_a_flush_and_what_slips_in_is_cut(
    cells: CellsUnderTest, place: Place, here: int, there: int
) -> None:
    web, other, api = place(here, WEB), place(here, OTHER), place(there, API, 8080)
    bystander = place(there, "acme/shop/bystander")
    cells[there].policy_file("shop.yaml", web_to_api("tcp: [8080, 9000, 61443]", "udp: 8080"))
    live = LiveConnections(web, api)
    with suspended(cells[there].agent_pid):
        cells[there].host.run(f"iptables-{BACKENDS[there]}", "-F")
        slipped = [Flow(other, api, 9001), Flow(other, api, 9002, udp=True)]
        assert all(each.lives() for each in slipped)
        assert live.go_on()
        cells[there].host.run("ip", "route", "del", f"{bystander.address}/32")  # legacy tables report no changes
    assert all(each.is_cut() for each in slipped)
    assert live.go_on()
    assert reachable_ports(other, api, (8080, TLS_PORT)) == set()
