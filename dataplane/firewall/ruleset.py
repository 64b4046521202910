"""All rules of a cell: HostState in, chains out, as text in iptables-save's own words. Pure.

One file for each table, in the order in which a packet meets them: `raw.py`, `mangle.py`, `filter.py`, `nat.py`. What stands
under `if state.tunnel` is for cells with peers.
"""

from collections.abc import Iterable
from typing import Final

from dataplane.firewall.filter import filter_chains
from dataplane.firewall.mangle import mangle_chains
from dataplane.firewall.nat import nat_chains
from dataplane.firewall.raw import RAW_IPV6_CHAINS, raw_chains
from dataplane.state import HostState
from dataplane.tables import CHAIN_PREFIX, ChainKey

BUILT_IN: Final = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


def chains(state: HostState) -> dict[ChainKey, tuple[str, ...]]:
    """Every chain of ours on this cell, by key; a value is its rules without `-A CHAIN`."""
    tables = {
        (4, "raw"): raw_chains(state),
        (6, "raw"): RAW_IPV6_CHAINS if state.ipv6 else {},
        (4, "mangle"): mangle_chains(state),
        (4, "filter"): filter_chains(state),
        (4, "nat"): nat_chains(state),
    }
    return {
        ChainKey(family, table, name): tuple(rules)
        for (family, table), named in tables.items()
        for name, rules in named.items()
    }


def jumps(ours: Iterable[ChainKey]) -> dict[ChainKey, tuple[int, ...]]:
    """A chain of ours that is named after a built-in one is jumped to from there, before any rule that might accept."""
    named = ((key, key.chain.removeprefix(CHAIN_PREFIX)) for key in ours)
    return {ChainKey(key.family, key.table, name): (0,) for key, name in named if name in BUILT_IN}
