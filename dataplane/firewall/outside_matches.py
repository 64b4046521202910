"""The outside in rules: rights as matches of addresses, protocol and ports, and the sets that stand for many networks.

Of what goes out the destination is outside, of what comes in the source. Rights of equal networks share a set of the kernel's,
which is named by what it holds. The addresses of names of hosts are in sets that are named by the names, and come and go with
the resolver's answers.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Network
from typing import Final

from dataplane.firewall.matches import ports_match
from dataplane.state import OutsideRight
from dataplane.tables import CHAIN_PREFIX, NAME_SETS, OUTSIDE_SETS

FEW: Final = 4  # networks that have a rule each; more are a set, which costs the same however many they are
EVERYWHERE: Final = (IPv4Network("0.0.0.0/1"), IPv4Network("128.0.0.0/1"))
REFUSE: Final = "-j CELLNET-REJECT"
ACCEPT: Final = "-j ACCEPT"
Sets = Mapping[str, tuple[IPv4Network, ...]]
SetsOfNames = Mapping[str, tuple[str, ...]]


class OutsideEnd(Enum):
    """Which end of a packet is outside: the option for its address, and the word for it in a match of a set."""

    DESTINATION = ("-d", "dst")
    SOURCE = ("-s", "src")


@dataclass(frozen=True, slots=True)
class RightsChain:
    """The rights of an app: the chain that has them, its rules, and the sets that these name. `audited`: one is an audit's."""

    chain: str
    rules: tuple[str, ...]
    sets: Sets
    names: SetsOfNames
    audited: bool


def rights_chain(rights: frozenset[OutsideRight], *, end: OutsideEnd, kind: str, note: str, admit: str = ACCEPT) -> RightsChain:
    """One rule or more for each right, which `admit`, or `note` what an audit alone lets pass, then refusal.

    The chain is called after its `kind` and what it holds.
    """
    ordered = sorted(rights, key=lambda each: (each.audit, each))  # what an audit costs is behind all that needs none
    rules = (*(rule for each in ordered for rule in _admitting(each, end, note if each.audit else admit)), REFUSE)
    sets = {name: networks for each in rights for name, networks in sets_of(each.networks).items()}
    names = {name_set(each.names): each.names for each in rights if each.names}
    return RightsChain(f"{CHAIN_PREFIX}{kind}-{_hash(' '.join(rules))}", rules, sets, names, any(each.audit for each in rights))


def addresses(networks: tuple[IPv4Network, ...], *, end: OutsideEnd, few: int = FEW) -> tuple[str, ...]:
    """A match for each network, or one for all of them where they are more than `few`."""
    option, word = end.value
    if len(networks) <= few:
        return tuple(f"{option} {each}" for each in networks)
    return (f"-m set --match-set {_set_name(networks)} {word}",)


def sets_of(networks: tuple[IPv4Network, ...], *, few: int = FEW) -> Sets:
    """The set that `addresses` names, if any."""
    return {_set_name(networks): networks} if len(networks) > few else {}


def _admitting(right: OutsideRight, end: OutsideEnd, admit: str) -> Iterator[str]:
    ports = f"-p {right.protocol}{ports_match(right)}"
    if right.names:
        yield f"{ports} -m set --match-set {name_set(right.names)} {end.value[1]} {admit}"
        return
    if right.networks == EVERYWHERE:
        yield f"{ports} {admit}"
        return
    for found in addresses(right.networks, end=end):
        by_address = not found.startswith("-m")  # iptables prints it first, and a set in its place among the matches
        yield f"{found} {ports} {admit}" if by_address else f"{ports} {found} {admit}"


@lru_cache(maxsize=1024)
def _set_name(networks: tuple[IPv4Network, ...]) -> str:
    return OUTSIDE_SETS + _hash(" ".join(map(str, networks)))


@lru_cache(maxsize=1024)
def name_set(names: tuple[str, ...]) -> str:
    """The set of the addresses that these patterns of names mean."""
    return NAME_SETS + _hash(" ".join(names))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
