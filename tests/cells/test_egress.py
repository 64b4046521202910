"""A policy to everywhere leads out of many cells as out of one: never to their etcd, and to no cell by its own address."""

from lab.segment import OUTSIDE
from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.dns.client import ask
from tests.testlib.dns.scripted_server import scripted_dns
from tests.testlib.node import Connected
from tests.testlib.outside import passes, served
from tests.testlib.patience import eventually
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


def test_a_policy_to_a_host_holds_on_each_cell_by_what_its_own_resolver_has_answered(
    cells: CellsUnderTest, place: Place
) -> None:
    here, there = place(1, WEB), place(2, WEB, name="there")
    for number in (1, 2):
        (cells[number].lab.root / "etc/resolv.conf").write_text(f"nameserver {OUTSIDE.ip}\n")
    cells[1].allow(WEB, "api.example.com", "tcp/443")
    with served(cells[1].outside, tcp=(443,)), scripted_dns(cells[1].outside, at=OUTSIDE.ip) as dns:
        dns.records = {"api.example.com": ["A 198.18.0.1"], "etcd.example.com": [f"A {OUTSIDE.ip}"]}
        eventually(lambda: ask(here, "api.example.com").addresses == ["198.18.0.1"])
        assert passes(here, "198.18.0.1", "tcp", 443)
        assert not passes(there, "198.18.0.1", "tcp", 443)
        eventually(lambda: ask(there, "api.example.com").addresses == ["198.18.0.1"])
        assert passes(there, "198.18.0.1", "tcp", 443)


def test_a_name_leads_neither_to_etcd_nor_to_a_cell(cells: CellsUnderTest, place: Place) -> None:
    """Nor to a container of another cell."""
    web, api = place(1, WEB), place(2, "acme/shop/api", 8080)
    (cells[1].lab.root / "etc/resolv.conf").write_text(f"nameserver {OUTSIDE.ip}\n")
    cells[1].allow(WEB, "evil.example.com", "tcp/any")
    with scripted_dns(cells[1].outside, at=OUTSIDE.ip) as dns:
        bad = [OUTSIDE.ip, cells[1].host.address, cells[2].host.address, cells[3].host.address, api.address]
        dns.records = {"evil.example.com": [f"A {each}" for each in (*bad, "198.18.0.9")]}
        eventually(lambda: ask(web, "evil.example.com").addresses == ["198.18.0.9"])
        assert not any(passes(web, str(each), "tcp", port) for each in bad for port in (ETCD, 8080))
