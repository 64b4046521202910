"""Echoes between containers of one cell and of two: where there is a right, in its one direction, and nothing else of ICMP."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dataplane.firewall.backends.driver import Firewall
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.flows import conntrack
from dataplane.flows.conntrack import Flow
from dataplane.state import Allow
from tests.testlib.hosts import Host, allow
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Refused
from tests.testlib.oracle import Mode
from tests.testlib.tunnels.modes import MODES
from tests.testlib.two_hosts import DB, WEB, TwoHosts, two_hosts

FIREWALLS: dict[str, list[Firewall]] = {
    "nft": [NftFirewall(), NftFirewall()],
    "legacy": [LegacyFirewall(), LegacyFirewall()],
}
TIMESTAMP = 13


def ping(tag: int, group: str = "") -> Allow:
    return Allow(tag, "icmp", 0, 0, group)


@pytest.fixture(params=FIREWALLS)
def cells(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    """Web, on another cell, and db, on the same, may ping api."""
    with two_hosts(netns, firewalls=FIREWALLS[request.param], permit=(ping(WEB), ping(DB))) as made:
        yield made


def echoes(host: Host) -> tuple[Flow, ...]:
    """The flows of ICMP that a cell knows."""

    def listed() -> tuple[Flow, ...]:
        link = conntrack.connect()
        found = tuple(flow for flow in conntrack.flows(link) if flow.protocol == 1)
        link.close()
        return found

    return host.kernel.observe(listed).result()


@pytest.mark.parametrize("caller", ["web", "db"], ids=["of another cell", "of the same cell"])
def test_an_echo_passes_where_there_is_a_right_and_in_no_other_direction(cells: TwoHosts, caller: str) -> None:
    may: Node = getattr(cells, caller)
    with cells.api.listen(8080):
        assert may.ping(cells.api) is Connected
        assert cells.api.ping(may) is Refused
        assert cells.other.ping(cells.api) is Refused, "another app"
        assert may.connect(cells.api, 8080) is Refused, "a right to an echo is one to nothing else"
        assert may.udp(cells.api, 8080) is Refused


@pytest.mark.parametrize("caller", ["web", "db"], ids=["of another cell", "of the same cell"])
def test_of_icmp_nothing_but_an_echo_is_let_through(cells: TwoHosts, caller: str) -> None:
    may: Node = getattr(cells, caller)
    assert cells.api.ping(cells.api, kind=TIMESTAMP) is Connected, "it would be answered"
    assert may.ping(cells.api, kind=TIMESTAMP) is Refused


@pytest.mark.parametrize("caller", ["web", "db"], ids=["of another cell", "of the same cell"])
def test_rights_to_all_ports_give_no_echo(cells: TwoHosts, caller: str) -> None:
    cells.permit(*(allow(tag, "1-65535", protocol) for tag in (WEB, DB) for protocol in ("tcp", "udp")))
    may: Node = getattr(cells, caller)
    assert may.ping(cells.api) is Refused


def test_a_group_may_ping_as_one_app_may(cells: TwoHosts) -> None:
    cells.there.become(replace(cells.reached(ping(0, "acme/*/*")), groups={"acme/*/*": frozenset({WEB})}))
    assert cells.web.ping(cells.api) is Connected
    assert cells.other.ping(cells.api) is Refused


@pytest.mark.parametrize("mode", [Mode.ACCEPT, Mode.STRICT])
def test_with_mutual_tls_an_echo_passes_plain_as_udp_does(cells: TwoHosts, mode: Mode) -> None:
    for host in (cells.here, cells.there):
        host.become(replace(host.state, mutual_tls=MODES[mode]))
    assert cells.web.ping(cells.api) is Connected
    assert cells.db.ping(cells.api) is Connected
    assert cells.other.ping(cells.api) is Refused


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "at its address"])
@pytest.mark.parametrize("caller", ["web", "db"], ids=["of another cell", "of the same cell"])
def test_an_echo_that_is_revoked_ends_while_it_is_asked_for(cells: TwoHosts, caller: str, everywhere: bool) -> None:
    """Its flow is established, and passes any rule, until it is cut."""
    may, kept = (cells.web, cells.db) if caller == "web" else (cells.db, cells.web)
    assert may.ping(cells.api, number=7) is Connected
    assert kept.ping(cells.api, number=8) is Connected
    cells.permit(ping(DB if caller == "web" else WEB))
    receipt = cells.there.sweep(*() if everywhere else (cells.api.address,))
    assert [(flow.source, flow.reply_source) for flow in receipt.flows] == [(may.address, cells.api.address)]
    assert may.ping(cells.api, number=7) is Refused
    assert kept.ping(cells.api, number=8) is Connected
    cells.permit(ping(WEB), ping(DB))
    assert may.ping(cells.api, number=7) is Connected, "allowed again, at once"


def test_a_flow_that_is_no_echo_is_cut_though_echoes_are_allowed(cells: TwoHosts) -> None:
    """Begun while our rules were not in force."""
    host = cells.there.netns
    host.run("iptables", "-I", "FORWARD", "-j", "ACCEPT")
    host.run("iptables-legacy", "-I", "FORWARD", "-j", "ACCEPT")
    assert cells.db.ping(cells.api, kind=TIMESTAMP) is Connected
    assert cells.db.ping(cells.api) is Connected
    assert len(cells.there.sweep().flows) == 1
    assert [flow.reply_source_port for flow in echoes(cells.there)] == [0]


def test_what_the_called_one_asks_under_the_same_number_is_no_answer(cells: TwoHosts) -> None:
    assert cells.web.ping(cells.api, number=9) is Connected
    assert cells.api.ping(cells.web, number=9) is Refused
    assert cells.other.ping(cells.api, number=9) is Refused
