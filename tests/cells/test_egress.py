"""A policy to everywhere leads out of many cells as out of one: never to their etcd, and to no cell by its own address."""

from lab.segment import OUTSIDE
from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.node import Connected
from tests.testlib.outside import passes, served
from tests.testlib.shop import WEB

EVERYWHERE = f"policies:\n- {{from: {WEB}, to: {{cidr: 0.0.0.0/0}}, tcp: any, udp: any, icmp: echo}}\n"
ETCD = 2379


def test_a_policy_to_everywhere_leads_neither_to_etcd_nor_to_a_cell(cells: CellsUnderTest, place: Place) -> None:
    web, outside = place(1, WEB), cells[1].outside
    cells[1].policy_file("out.yaml", EVERYWHERE)
    for cell in (cells[1], cells[2]):
        cell.host.listen(9000)
        assert outside.connect(cell.host, 9000) is Connected
    assert cells[1].host.connect(OUTSIDE.ip, ETCD) is Connected
    with served(outside, tcp=(443,)):
        assert passes(web, "198.18.0.1", "tcp", 443)
        assert passes(web, "198.18.0.1", "icmp", 0)
        for address, port in ((OUTSIDE.ip, ETCD), (cells[1].host.address, 9000), (cells[2].host.address, 9000)):
            assert not passes(web, str(address), "tcp", port), f"{address}:{port}"
        assert not passes(web, str(OUTSIDE.ip), "icmp", 0)
