"""What was refused becomes policies that let exactly that through, once somebody has looked at them and applied them."""

from ipaddress import IPv4Address
from pathlib import Path

from tests.testlib.cell import CellUnderTest
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB

TIMESTAMP = 13  # of ICMP


def suggested(cell: CellUnderTest, *words: str) -> str:
    return cell.cellnet("policy", "suggest", *words).out


def test_what_was_refused_is_suggested_and_passes_once_it_is_applied(cell: CellUnderTest, tmp_path: Path) -> None:
    web, api, other = cell.containers(WEB, API, OTHER)
    api.listen(9100)
    assert suggested(cell, "--app", WEB) == "policies: []\n"
    assert web.connect(api, 9100) is Refused
    web.connect(api, 9101)
    web.udp(api, 53, seconds=0.2)
    web.connect(IPv4Address("192.0.2.77"), 443)
    other.connect(cell.lab.address.ip, 22)
    eventually(lambda: "udp: 53" in suggested(cell) and "192.0.2.77" in suggested(cell))
    found = suggested(cell, "--app", WEB)
    first, second = (line for line in found.splitlines() if line.startswith("  -"))
    assert first.startswith(f"  - {{from: {WEB}, to: {API}, tcp: [9100, 9101], udp: 53, note: ")
    assert second.startswith(f"  - {{from: {WEB}, to: {{cidr: 192.0.2.77/32}}, tcp: 443, note: ")
    assert OTHER not in suggested(cell), "no policy opens a port of the host"
    (path := tmp_path / "suggested.yaml").write_text(found)
    cell.cellnet("policy", "validate", str(path))
    cell.cellnet("policy", "apply", "-f", str(path))
    assert web.connect(api, 9100) is Connected
    assert other.connect(api, 9100) is Refused
    assert suggested(cell, "--app", WEB) == "policies: []\n", "policies allow all of it by now"


def test_what_no_policy_speaks_of_is_suggested_as_nothing_else(cell: CellUnderTest) -> None:
    of, to = "acme/shop/asking", "acme/shop/asked"
    asking, asked = cell.run_app(of), cell.run_app(to)
    assert asking.ping(asked, kind=TIMESTAMP) is Refused
    eventually(lambda: f"icmp/{TIMESTAMP}" in cell.cellnet("flows", "--denied", "--app", of).out)
    assert suggested(cell, "--app", of) == "policies: []\n"
    assert asking.ping(asked) is Refused
    eventually(lambda: f"from: {of}, to: {to}, icmp: echo" in suggested(cell, "--app", of))


def test_a_scan_is_no_wish(cell: CellUnderTest) -> None:
    other, api = cell.run_app(OTHER), cell.run_app(API)
    for port in range(9200, 9230):
        other.connect(api, port)
    assert other.connect(api, 9230) is Refused

    def warned() -> bool:
        done = cell.cellnet("policy", "suggest", "--app", OTHER)
        return f"{OTHER} asked {API} for more ports than are suggested" in done.err and f"from: {OTHER}" not in done.out

    eventually(warned)


def test_what_was_refused_before_the_span_is_not_suggested(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB, name="late-web"), cell.run_app(API, name="late-api")
    assert web.connect(api, 9300) is Refused
    eventually(lambda: "9300" in suggested(cell))
    eventually(lambda: "9300" not in suggested(cell, "--since", "1s"))
    assert "9300" in suggested(cell)
