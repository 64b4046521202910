"""From a container out of the overlay: what an app may reach there, found by its tag.

The way stays short among hundreds of apps: 16 rules at most for the lowest bits of the tag, then one for each of the apps that
have them in common. Apps of equal rights share a chain, and rights of equal networks a set of the kernel's; both are named by
what they hold. Established packets never come here. Pure, and cached for as long as the rights live.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network
from typing import Final

from dataplane import way_out
from dataplane.firewall.matches import ECHO, tunnelled
from dataplane.memo import Memo
from dataplane.state import HostState, OutsideRight
from dataplane.tables import CHAIN_PREFIX, OUTSIDE_SETS, TAG_MASK, VTEPS_SET

# Networks that have a rule each; more are a set, which costs the same however many they are. One of what is never outside would
# be made anew with each change
FEW, FEW_NEVER = 4, 16
PARTS: Final = 16
ANY: Final = (1, 65535)
EVERYWHERE: Final = (IPv4Network("0.0.0.0/1"), IPv4Network("128.0.0.0/1"))
REFUSE: Final = "-j CELLNET-REJECT"
Sets = Mapping[str, tuple[IPv4Network, ...]]


@dataclass(frozen=True, slots=True)
class Rights:
    """Those of an app: the chain that has them, its rules, and the sets that these name."""

    chain: str
    rules: tuple[str, ...]
    sets: Sets


def egress_chains(state: HostState) -> dict[str, Iterable[str]]:
    """All of these chains; the first is CELLNET-EGRESS."""
    refused = f"-d {state.overlay} {REFUSE}"  # no such container: refused at once
    if not way_out.is_possible(state):
        return {"CELLNET-EGRESS": (refused, REFUSE)}
    never = tuple(_never(state))
    if state.egress_allowed:
        return {"CELLNET-EGRESS": (refused, *never, "-j ACCEPT")}
    apps = _apps(state)
    parts: dict[int, list[str]] = {}
    for tag, rights in sorted(apps.items()):
        parts.setdefault(tag % PARTS, []).append(f"-m mark --mark {tag:#x}/{TAG_MASK:#x} -g {rights.chain}")
    to_parts = (f"-m mark --mark {part:#x}/{PARTS - 1:#x} -g CELLNET-EGRESS-{part:x}" for part in sorted(parts))
    return {
        "CELLNET-EGRESS": (refused, *never, *to_parts, REFUSE),
        **{f"CELLNET-EGRESS-{part:x}": (*rules, REFUSE) for part, rules in parts.items()},
        **{rights.chain: rights.rules for rights in apps.values()},
    }


def egress_sets(state: HostState) -> Sets:
    """The sets that the rules name: networks, ascending and apart."""
    if not way_out.is_possible(state):
        return {}
    found = dict(_sets(way_out.never(state), few=FEW_NEVER))
    if not state.egress_allowed:
        for rights in _apps(state).values():
            found.update(rights.sets)
    return found


def _apps(state: HostState) -> dict[int, Rights]:
    """By tag. Instances of one app have the same rights."""
    return {each.tag: _rights.of(each.egress) for each in state.workloads.values() if each.egress}


def _never(state: HostState) -> Iterator[str]:
    """What policies cannot open."""
    if state.tunnel:
        # to what is a peer's address now, or will be: masqueraded, it would be taken for this cell's
        yield f"{tunnelled(state.tunnel)} {REFUSE}"
        yield f"-m set --match-set {VTEPS_SET} dst {REFUSE}"
    yield from (f"{each} {REFUSE}" for each in _destinations(way_out.never(state), few=FEW_NEVER))


def _of_rights(rights: frozenset[OutsideRight]) -> Rights:
    rules = (*(rule for each in sorted(rights) for rule in _accepts(each)), REFUSE)
    sets = {name: networks for each in rights for name, networks in _sets(each.networks).items()}
    return Rights(f"{CHAIN_PREFIX}OUT-{_hash(' '.join(rules))}", rules, sets)


_rights: Memo[frozenset[OutsideRight], Rights] = Memo(_of_rights)


def _accepts(right: OutsideRight) -> Iterator[str]:
    ports = f"-p {right.protocol}{_ports(right)}"
    if right.networks == EVERYWHERE:
        yield f"{ports} -j ACCEPT"
        return
    for destination in _destinations(right.networks):
        by_address = destination.startswith("-d")  # iptables prints it first, and a set in its place among the matches
        yield f"{destination} {ports} -j ACCEPT" if by_address else f"{ports} {destination} -j ACCEPT"


def _destinations(networks: tuple[IPv4Network, ...], *, few: int = FEW) -> tuple[str, ...]:
    if len(networks) <= few:
        return tuple(f"-d {each}" for each in networks)
    return (f"-m set --match-set {_set_name(networks)} dst",)


def _sets(networks: tuple[IPv4Network, ...], *, few: int = FEW) -> Sets:
    return {_set_name(networks): networks} if len(networks) > few else {}


@lru_cache(maxsize=1024)
def _set_name(networks: tuple[IPv4Network, ...]) -> str:
    return OUTSIDE_SETS + _hash(" ".join(map(str, networks)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _ports(right: OutsideRight) -> str:
    if right.protocol == "icmp":
        return f" {ECHO}"
    if (right.first, right.last) == ANY:
        return ""
    ports = str(right.first) if right.first == right.last else f"{right.first}:{right.last}"
    return f" -m {right.protocol} --dport {ports}"
