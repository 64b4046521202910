"""The paths to outside that are compared have as many rules as they say, and the one that fits is in the worst place. Pure."""

from pathlib import Path

import pytest

from bench.stages.egress_paths import CLIENT_TAG, OF_AN_APP, SERVER, state_of, written
from bench.stages.paths import CLIENT, Rules, Setting
from dataplane.compile import compile_tables
from dataplane.firewall.backends.backends import Backend
from dataplane.tables import ChainKey

NOWHERE = Path("/nowhere")
TO_SERVER = f"-d {SERVER.network} "


def rules(setting: Setting) -> list[str]:
    """Of those that are written by hand, what filters."""
    return [line for line in written(setting).splitlines() if line.startswith("-A FORWARD")]


def test_a_ten_rule_firewall_has_ten_rules_and_looks_at_connections_first() -> None:
    found = rules(Setting(Rules.TEN, Backend.NFT))
    assert len(found) == 10
    assert "ESTABLISHED" in found[0]
    assert TO_SERVER in found[-1]


def test_a_flat_list_has_all_its_rules_behind_conntrack_and_the_one_that_fits_last() -> None:
    found = rules(Setting(Rules.FLAT_ESTABLISHED, Backend.NFT, 100))
    assert "ESTABLISHED" in found.pop(0)
    assert len(set(found)) == 100
    assert TO_SERVER in found[-1]


def test_a_bare_path_has_no_rules() -> None:
    assert written(Setting(Rules.NONE, Backend.NFT)) == ""


@pytest.mark.parametrize("count", [1, 10, 40, 41, 10_000])
def test_ours_has_as_many_rules_and_the_one_that_fits_is_the_last_of_the_last_app(count: int) -> None:
    state = state_of(count, folder=NOWHERE)
    chains = compile_tables(state).chains
    out = [rule for key, rules in chains.items() if key.chain.startswith("CELLNET-OUT-") for rule in rules]
    assert len([rule for rule in out if rule != "-j CELLNET-REJECT"]) == count
    to_parts = [rule for rule in chains[ChainKey(4, "filter", "CELLNET-EGRESS")] if "--mark" in rule]
    last = chains[ChainKey(4, "filter", "CELLNET-EGRESS-f")][-2]
    assert to_parts[-1].endswith("-g CELLNET-EGRESS-f")
    assert f"--mark {CLIENT_TAG:#x}/" in last
    own = chains[ChainKey(4, "filter", last.rpartition(" ")[2])]
    assert len(own) - 1 == min(count, OF_AN_APP)
    assert TO_SERVER in own[-2]
    assert state.workloads[CLIENT].tag == CLIENT_TAG
