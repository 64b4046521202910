"""From a container out of the overlay: what an app may reach there, found by its tag.

The way stays short among hundreds of apps: 16 rules at most for the lowest bits of the tag, then one for each of the apps that
have them in common. Apps of equal rights share a chain, and rights of equal networks a set of the kernel's; both are named by
what they hold. Established packets never come here. Pure, and cached for as long as the rights live.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from dataplane import way_out
from dataplane.firewall.limits import WITHIN_LIMITS, limit_chains
from dataplane.firewall.matches import tunnelled
from dataplane.firewall.notes import WATCHED_OUT, audited
from dataplane.firewall.outside_matches import (
    REFUSE,
    OutsideEnd,
    RightsChain,
    Sets,
    SetsOfNames,
    addresses,
    rights_chain,
    sets_of,
)
from dataplane.memo import Memo
from dataplane.state import HostState, OutsideRight
from dataplane.tables import TAG_MASK, VTEPS_SET

FEW_NEVER: Final = 16  # networks that have a rule each: a set of what is never outside would be made anew with each change
PARTS: Final = 16
AUDIT: Final = "CELLNET-AUDIT-OUT"


def egress_chains(state: HostState) -> dict[str, Iterable[str]]:
    """All of these chains; the first is CELLNET-EGRESS."""
    refused = f"-d {state.overlay} {REFUSE}"  # no such container: refused at once
    if not way_out.is_possible(state):
        return {"CELLNET-EGRESS": (refused, REFUSE)}
    never = tuple(_never(state))
    if state.egress_allowed:
        return {"CELLNET-EGRESS": (refused, *never, WITHIN_LIMITS), **limit_chains(state)}
    apps = _apps(state)
    parts: dict[int, list[str]] = {}
    for tag, rights in sorted(apps.items()):
        parts.setdefault(tag % PARTS, []).append(f"-m mark --mark {tag:#x}/{TAG_MASK:#x} -g {rights.chain}")
    to_parts = (f"-m mark --mark {part:#x}/{PARTS - 1:#x} -g CELLNET-EGRESS-{part:x}" for part in sorted(parts))
    return {
        "CELLNET-EGRESS": (refused, *never, *to_parts, REFUSE),
        **{f"CELLNET-EGRESS-{part:x}": (*rules, REFUSE) for part, rules in parts.items()},
        **{rights.chain: rights.rules for rights in apps.values()},
        **({AUDIT: (audited(WATCHED_OUT), WITHIN_LIMITS)} if any(each.audited for each in apps.values()) else {}),
        **limit_chains(state),
    }


def egress_sets(state: HostState) -> Sets:
    """The sets that the rules name: networks, ascending and apart."""
    if not way_out.is_possible(state):
        return {}
    found = dict(sets_of(way_out.never(state), few=FEW_NEVER))
    if not state.egress_allowed:
        for rights in _apps(state).values():
            found.update(rights.sets)
    return found


def egress_names(state: HostState) -> SetsOfNames:
    """The sets that the rules name for addresses of names, each with the patterns of these."""
    if state.egress_allowed:
        return {}
    return {name: names for rights in _apps(state).values() for name, names in rights.names.items()}


def _apps(state: HostState) -> dict[int, RightsChain]:
    """By tag. Instances of one app have the same rights."""
    return {each.tag: _rights.of(each.egress) for each in state.workloads.values() if each.egress}


def _never(state: HostState) -> Iterator[str]:
    """What policies cannot open."""
    if state.tunnel:
        # to what is a peer's address now, or will be: masqueraded, it would be taken for this cell's
        yield f"{tunnelled(state.tunnel)} {REFUSE}"
        yield f"-m set --match-set {VTEPS_SET} dst {REFUSE}"
    yield from (f"{each} {REFUSE}" for each in addresses(way_out.never(state), end=OutsideEnd.DESTINATION, few=FEW_NEVER))


_rights: Memo[frozenset[OutsideRight], RightsChain] = Memo(
    partial(rights_chain, end=OutsideEnd.DESTINATION, kind="OUT", note=f"-g {AUDIT}", admit=WITHIN_LIMITS)
)
