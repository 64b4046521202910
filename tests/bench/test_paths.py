"""The paths that are compared have as many rules as they say, and the one that fits is in the worst place. Pure."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bench.stages.paths import CHAIN, CLIENT_TAG, Rules, Setting, state_of, written
from bench.stages.tunnel_paths import FROM, TO, by_hand, sides
from dataplane.compile import compile_tables
from dataplane.firewall.backends.backends import Backend
from dataplane.firewall.rights import container_chain
from dataplane.state import HostState
from dataplane.tables import ChainKey

NOWHERE = Path("/nowhere")


def rules(setting: Setting) -> list[str]:
    """Those that are written by hand."""
    server, _ = state_of(1, folder=NOWHERE, ours=False)
    return [line for line in written(setting, server).splitlines() if line.startswith("-A")]


def allowed(state: HostState) -> list[str]:
    """The rules of all containers' chains that let something through."""
    chains = compile_tables(state).chains
    own = [chains[ChainKey(4, "filter", container_chain(address))] for address in state.workloads]
    return [rule for rules in own for rule in rules if rule.endswith("-j ACCEPT")]


def test_a_ten_rule_firewall_has_ten_rules_and_looks_at_connections_first() -> None:
    found = rules(Setting(Rules.TEN, Backend.NFT))
    assert len(found) == 10
    assert "ESTABLISHED" in found[0]


@pytest.mark.parametrize(("kind", "established"), [(Rules.FLAT, -1), (Rules.FLAT_ESTABLISHED, 0)])
def test_a_flat_list_has_all_its_rules_before_the_one_that_fits(kind: Rules, established: int) -> None:
    found = rules(Setting(kind, Backend.NFT, 100))
    assert "ESTABLISHED" in found.pop(established)
    assert len(set(found)) == 100
    assert "-s 10.255.1.2/32" in found[-1]


def test_a_bare_path_has_no_rules() -> None:
    assert rules(Setting(Rules.NONE, Backend.NFT)) == []


@pytest.mark.parametrize("count", [1, 10, 80, 81, 1_000, 20_000])
def test_ours_has_as_many_rights_as_rules_and_the_one_that_fits_is_the_last_of_a_full_chain(count: int) -> None:
    server, state = state_of(count, folder=NOWHERE, ours=True)
    chains = compile_tables(state).chains
    assert len(allowed(state)) == count
    own = chains[ChainKey(4, "filter", container_chain(server))]
    assert len(own) - 1 == min(count, CHAIN)
    assert f"--mark {CLIENT_TAG:#x}/" in own[-2]


def test_among_250_containers_the_server_is_the_one_that_is_found_last() -> None:
    server, state = state_of(20_000, folder=NOWHERE, ours=True)
    assert len(state.workloads) == 251
    assert str(server) == "10.255.1.239"  # the 15th block of 16, and the last place in it


@pytest.mark.parametrize("count", [1, 81, 20_000])
def test_between_cells_both_have_as_many_rules_and_the_one_that_fits_is_the_last_of_the_servers_chain(count: int) -> None:
    source, target = sides(Setting(Rules.OURS, Backend.NFT, count), NOWHERE)
    for side, other in ((source, target), (target, source)):
        assert len(allowed(side.state)) == count
        assert side.state.tunnel is not None
        assert other.state.tunnel is not None
        assert side.state.peers[other.state.subnet] == other.state.tunnel.address
    assert source.state.workloads[source.container].tag == CLIENT_TAG
    own = compile_tables(target.state).chains[ChainKey(4, "filter", container_chain(target.container))]
    assert f"--mark {CLIENT_TAG:#x}/" in own[-2]


def test_between_cells_the_yardsticks_have_the_same_tunnel() -> None:
    ours = sides(Setting(Rules.OURS, Backend.NFT, 1), NOWHERE)
    for kind in (Rules.NONE, Rules.TEN):
        for one, other in zip(ours, sides(Setting(kind, Backend.NFT), NOWHERE), strict=True):
            assert compile_tables(one.state).vteps == compile_tables(other.state).vteps
            assert one.state.peers == other.state.peers
    assert [each.number for each in ours] == [FROM, TO]


def test_between_cells_the_ten_rule_firewall_has_ten_rules_two_of_which_take_the_tunnel_from_the_other_host_only() -> None:
    setting = Setting(Rules.TEN, Backend.NFT)
    text = by_hand(setting, *sides(setting, NOWHERE), tunnelled_from=IPv4Address("10.77.0.1"))
    found = [line for line in text.splitlines() if line.startswith("-A")]
    assert (len(found), sum(line.startswith("-A FORWARD") for line in found)) == (10, 8)
    assert "-s 10.77.0.1/32 -p udp" in found[0]
    assert "-s 10.255.2.3/32 -d 10.255.1.3/32" in found[-1]
