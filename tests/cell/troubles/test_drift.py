"""What others do to the host is put back within seconds, counted and shown; what was opened meanwhile is cut."""

import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from tests.testlib.agents.vigilant import VigilantCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import PATIENCE, eventually

SHOP = "policies:\n- {from: acme/shop/web, to: acme/shop/api, tcp: [8080]}\n"
BACKENDS = ("nft", "legacy")


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cell_overrides(backend: str) -> Sequence[str]:
    return (f"firewall.backend={backend}",)


@pytest.fixture
def looking_cell(backend: str, request: pytest.FixtureRequest) -> CellUnderTest:
    """Where the agent does not hear of a change, as legacy tables report none, one that looks often."""
    if backend == "nft":
        return cast("CellUnderTest", request.getfixturevalue("cell"))
    make: Callable[..., CellUnderTest] = request.getfixturevalue("make_cell")
    return make(f"firewall.backend={backend}", kind=VigilantCell)


def repairs(cell: CellUnderTest) -> int:
    return int(cell.status().text("repairs"))


# each of these alone, on both backends: tests/dataplane/test_kernel.py; here, that the agent notices
HEARD = [
    "iptables-nft -F",
    "iptables-nft -D FORWARD -j CELLNET-FORWARD",
    "ip6tables-nft -t raw -F",
    "ip route del {api}/32",
    "ip link set {interface} down",
    "ip link del {interface}",
    "sysctl -qw net.ipv4.conf.{interface}.rp_filter=0",
]
FOUND = [
    "ipset flush cellnet-tags",
    "ip neigh del {api} dev {interface}",
    "iptables-legacy -F",
    "iptables-legacy -t raw -F CELLNET-PREROUTING",
]


@pytest.mark.parametrize("damage", HEARD)
def test_foreign_damage_is_noticed_repaired_and_counted(cell: CellUnderTest, backend: str, damage: str) -> None:
    if "-nft" in damage and backend != "nft":
        damage = "ip route del {api}/32"  # legacy tables report no changes
    broken_and_mended(cell, [damage])


def test_damage_without_an_event_is_found_by_the_next_full_read(cell: CellUnderTest, backend: str) -> None:
    broken_and_mended(cell, [each for each in FOUND if "legacy" not in each or backend == "legacy"])


def broken_and_mended(cell: CellUnderTest, damages: Sequence[str]) -> None:
    web, api = cell.containers("acme/shop/web", "acme/shop/api")
    cell.policy_file("shop.yaml", SHOP)
    before = repairs(cell)
    for damage in damages:
        cell.host.run(*damage.format(api=api.address, interface=api.interface).split())
    eventually(lambda: repairs(cell) > before)
    eventually(lambda: (web.connect(api, 8080), api.connect(web, 8080)) == (Connected, Refused))
    assert web.get(api, 8080)
    cell.wait_well()
    newest = next(cell.status().at("last_repairs").each())
    assert newest.text("what")
    assert newest.text("at") >= cell.status().at("cell").text("started")  # in seconds


def test_repairs_leave_another_programs_table_alone(looking_cell: CellUnderTest, backend: str) -> None:
    cell = looking_cell
    web, api = cell.containers("acme/shop/web", "acme/shop/api")
    cell.policy_file("shop.yaml", SHOP)
    foreign = "*filter\n:FORWARD ACCEPT\n:DOCKER-USER -\n-A FORWARD -j DOCKER-USER\n-A INPUT -s 192.0.2.1 -j DROP\nCOMMIT\n"
    before = repairs(cell)
    cell.host.run("sh", "-c", f"printf '{foreign.encode('unicode_escape').decode()}' | iptables-{backend}-restore")
    eventually(lambda: repairs(cell) > before)
    eventually(lambda: cell.status().flag("ok"))
    assert web.get(api, 8080)
    assert api.connect(web, 8080) is Refused
    saved = cell.host.run(f"iptables-{backend}-save")
    assert "-A FORWARD -j DOCKER-USER" in saved
    assert "-A INPUT -s 192.0.2.1/32 -j DROP" in saved
    assert re.search(r"-A FORWARD -j CELLNET-FORWARD\n-A FORWARD -j DOCKER-USER", saved)


def test_what_was_opened_while_the_rules_were_gone_is_cut_and_the_rest_lives(looking_cell: CellUnderTest, backend: str) -> None:
    cell = looking_cell
    web, api = cell.run_app("acme/shop/web"), cell.run_app("acme/shop/api")
    cell.policy_file("shop.yaml", SHOP)
    allowed, answer = pair(web, api, 8080)
    listener = api.listen(9000)
    cuts = cell.log.count("flows_cut")
    cell.host.run(f"iptables-{backend}", "-F", "FORWARD")
    sneaked = socket.socket()
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            sneaked = web.dial(api, 9000)
            break
        except OSError:
            cell.host.run(f"iptables-{backend}", "-F", "FORWARD")
    else:
        pytest.fail("no connection was opened while the rules were gone")
    accepted, _ = listener.accept()
    eventually(lambda: cell.log.count("flows_cut") > cuts)
    assert is_reset(sneaked)
    assert is_reset(accepted)
    assert is_alive(allowed, answer)


def test_a_program_that_keeps_moving_the_jump_raises_an_alarm_and_no_endless_repair(
    make_cell: Callable[..., CellUnderTest],
) -> None:
    cell = make_cell("firewall.backend=nft")
    cell.run_app("acme/shop/web")
    for _ in range(8):
        if not cell.status().flag("ok"):
            break
        before = repairs(cell)
        cell.host.run("iptables-nft", "-I", "FORWARD", "1", "-j", "ACCEPT")
        eventually(lambda: repairs(cell) > before or not cell.status().flag("ok"))
    problems = [each.text("area") for each in cell.status().at("problems").each()]
    assert problems == ["firewall"]
    assert cell.host.run("iptables-nft", "-S", "FORWARD").splitlines()[1] == "-A FORWARD -j ACCEPT"


def test_the_metrics_tell_of_repairs_rules_and_certificates(cell: CellUnderTest) -> None:
    cell.run_app("acme/shop/web")
    text = cell.host.run(
        "curl", "-sS", "--unix-socket", str(cell.lab.root / "run/cellnet/agent.sock"), "http://cell/v1/metrics"
    )
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["cellnet_attachments"]) == 1
    assert float(values["cellnet_rules"]) > 50
    assert float(values["cellnet_envoy_connected"]) == 1
    assert float(values["cellnet_repairs_total"]) == repairs(cell)
    assert 0 < float(values['cellnet_certificate_seconds_left{role="leaf"}']) <= 24 * 3600
    assert float(values["cellnet_convergence_seconds_count"]) > 0
