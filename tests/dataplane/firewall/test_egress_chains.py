"""The way out through the chains, by their text alone: as short among hundreds of apps and networks as among few."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dataplane.compile import compile_tables
from dataplane.firewall.egress import egress_chains, egress_names, egress_sets
from dataplane.firewall.limits import WITHIN_LIMITS
from dataplane.plan import plan
from dataplane.state import HostState, OutsideRight, Workload
from dataplane.way_out import WaysOut
from tests.testlib.hosts import EMPTY, FIRST

MOST = 16 + 20 + 2  # rules that a packet meets among 300 apps until it is in the chain of its own


def right(number: int, count: int = 10, protocol: str = "tcp") -> OutsideRight:
    networks = tuple(IPv4Network((0xC6120000 + 16 * (number + each), 29)) for each in range(count))
    return OutsideRight(protocol, 443, 443, networks)


def state(rights: Mapping[int, frozenset[OutsideRight]]) -> HostState:
    """An app for each tag."""
    placed = {FIRST + tag: Workload(f"c{tag}", FIRST + tag, tag, Path("/p"), egress=allowed) for tag, allowed in rights.items()}
    return replace(EMPTY, workloads=placed)


def steps(chains: Mapping[str, tuple[str, ...]], tag: int) -> tuple[int, str]:
    """How many rules are looked at until a packet with this tag is in its app's chain, and the name of that."""
    chain, count = "CELLNET-EGRESS", 0
    while not chain.startswith("CELLNET-OUT-"):
        for rule in chains[chain]:
            count += 1
            words = rule.split()
            if "--mark" in words:
                value, mask = (int(each, 16) for each in words[words.index("--mark") + 1].split("/"))
                if tag & mask == value:
                    chain = words[-1]
                    break
        else:
            raise AssertionError(f"no way for {tag} in {chain}")
    return count, chain


def test_the_way_to_an_apps_chain_is_as_long_among_hundreds_of_apps_as_among_few() -> None:
    made = state({tag: frozenset({right(tag)}) for tag in range(1, 301)})
    chains = {name: tuple(rules) for name, rules in egress_chains(made).items()}
    found = [steps(chains, tag) for tag in range(1, 301)]
    assert max(count for count, _ in found) <= MOST
    assert len({chain for _, chain in found}) == 300


def test_fifty_apps_of_the_same_thousand_networks_are_one_chain_and_one_set() -> None:
    shared = frozenset({right(0, 1000)})
    made = state(dict.fromkeys(range(1, 51), shared))
    chains = egress_chains(made)
    assert len([name for name in chains if name.startswith("CELLNET-OUT-")]) == 1
    (networks,) = egress_sets(made).values()
    assert networks == right(0, 1000).networks
    chain = next(rules for name, rules in chains.items() if name.startswith("CELLNET-OUT-"))
    assert len(tuple(chain)) == 2, "one rule, and the refusal"


def test_a_change_of_one_apps_rights_touches_no_others() -> None:
    before = {tag: frozenset({right(tag)}) for tag in range(1, 51)}
    changes = plan(
        compile_tables(state({**before, 7: frozenset({right(7), right(7, 9, "udp")})})), compile_tables(state(before))
    )
    assert len(changes.chains.change) == 1, "the way there"
    assert (len(changes.chains.add), len(changes.chains.drop)) == (1, 1)
    assert (len(changes.outside.add), len(changes.outside.drop)) == (1, 0)


NETWORKS = st.lists(st.integers(0, 63), unique=True, max_size=20).map(
    lambda found: tuple(IPv4Network((0xC6120000 + 4 * each, 30 + each % 3)) for each in sorted(found))
)
RIGHTS = st.builds(
    lambda protocol, first, length, networks: OutsideRight(protocol, first, first + length, networks),
    st.sampled_from(["tcp", "udp"]), st.integers(1, 20), st.integers(0, 9), NETWORKS,
)  # fmt: skip


@given(rights=st.frozensets(RIGHTS, max_size=4), offset=st.integers(-2, 260), port=st.integers(1, 32))
def test_a_flow_may_live_on_exactly_if_a_right_covers_it(rights: frozenset[OutsideRight], offset: int, port: int) -> None:
    address = IPv4Address(0xC6120000 + offset)
    for protocol in ("tcp", "udp", "icmp"):
        covered = any(
            each.protocol == protocol
            and each.first <= port <= each.last
            and any(address in network for network in each.networks)
            for each in rights
        )
        assert WaysOut(rights).lead_to(address, protocol=protocol, port=port) is covered


def test_what_is_on_trial_is_asked_for_behind_all_that_is_in_force_and_noted() -> None:
    firm, trial = right(8, 1), replace(right(0, 1), audit=True)
    chains = {name: tuple(rules) for name, rules in egress_chains(state({1: frozenset({firm, trial})})).items()}
    (rules,) = [found for name, found in chains.items() if name.startswith("CELLNET-OUT-")]
    assert [each.split()[-1] for each in rules] == ["CELLNET-LIMITS", "CELLNET-AUDIT-OUT", "CELLNET-REJECT"]
    note, passed = chains["CELLNET-AUDIT-OUT"]
    assert "--nflog-prefix audit" in note
    assert passed == WITHIN_LIMITS
    assert "CELLNET-AUDIT-OUT" not in egress_chains(state({1: frozenset({firm})}))


def test_a_thousand_names_are_one_rule_and_one_set_whoever_has_them() -> None:
    names = tuple(f"n{number:04d}.example.com" for number in range(1000))
    made = state({tag: frozenset({OutsideRight("tcp", 443, 443, names=names)}) for tag in range(1, 51)})
    (found,) = egress_names(made).items()
    assert found[1] == names
    (rules,) = [tuple(rules) for name, rules in egress_chains(made).items() if name.startswith("CELLNET-OUT-")]
    assert rules == (f"-p tcp -m tcp --dport 443 -m set --match-set {found[0]} dst {WITHIN_LIMITS}", "-j CELLNET-REJECT")
    assert egress_names(replace(made, egress_allowed=True)) == {}
