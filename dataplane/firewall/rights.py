"""Rights as rules: the chain of one container, the chain that a group shares, and both in parts where they are long.

A chain is a list that a new connection walks until a rule fits, at some ten nanoseconds a rule. Above 250 rules it is split
by the lowest bits of the tag into 16 lists. Established packets never come here. Pure, and kept for as long as the rights
themselves: of 250 containers usually one has changed.
"""

import hashlib
from collections.abc import Mapping

from dataplane.memo import Memo
from dataplane.state import Allow
from dataplane.tables import TAG_MASK

LONGEST = 250
PARTS = 16
ANY = (1, 65535)
REFUSE = "-j CELLNET-REJECT"

Chains = Mapping[str, tuple[str, ...]]
ByName = dict[str, Chains]


def _nothing_yet(_: object) -> ByName:
    return {}


_containers: Memo[frozenset[Allow], ByName] = Memo(_nothing_yet)
_groups: Memo[frozenset[int], ByName] = Memo(_nothing_yet)


def group_chain(name: str) -> str:
    """Chain of a group; iptables takes 28 characters, so its name is hashed."""
    return f"CELLNET-IN-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def of_container(chain: str, allows: frozenset[Allow]) -> Chains:
    """One rule for each right, then refusal; groups first, in whose own chains there is no refusal."""
    known = _containers.of(allows)
    if chain not in known:
        known[chain] = _of_container(chain, allows)
    return known[chain]


def _of_container(chain: str, allows: frozenset[Allow]) -> Chains:
    groups = tuple(_in_group(each) for each in sorted(allows) if each.group)
    single = tuple((each.tag, _accept(each)) for each in sorted(allows) if not each.group)
    return _in_parts(chain, single, before=groups, end=(REFUSE,))


def of_group(name: str, tags: frozenset[int]) -> Chains:
    """Accepts each tag; who is not in it goes back to where the jump stood."""
    known = _groups.of(tags)
    if name not in known:
        known[name] = _of_group(name, tags)
    return known[name]


def _of_group(name: str, tags: frozenset[int]) -> Chains:
    single = tuple((tag, f"-m mark --mark {tag:#x}/{TAG_MASK:#x} -j ACCEPT") for tag in sorted(tags))
    return _in_parts(group_chain(name), single, before=(), end=())


def _in_parts(chain: str, rules: tuple[tuple[int, str], ...], *, before: tuple[str, ...], end: tuple[str, ...]) -> Chains:
    if len(rules) <= LONGEST:
        return {chain: (*before, *(text for _, text in rules), *end)}
    parts: dict[int, list[str]] = {}
    for tag, text in rules:
        parts.setdefault(tag % PARTS, []).append(text)
    found = {f"{chain}-{part:x}": (*texts, *end) for part, texts in sorted(parts.items())}
    # goto: at the end of a part of a group's chain we are back where the group was asked
    choices = (f"-m mark --mark {part:#x}/{PARTS - 1:#x} -g {chain}-{part:x}" for part in sorted(parts))
    return {chain: (*before, *choices, *end), **found}


def _in_group(allow: Allow) -> str:
    return f"-p {allow.protocol}{_ports(allow)} -j {group_chain(allow.group)}"


def _accept(allow: Allow) -> str:
    return f"-p {allow.protocol} -m mark --mark {allow.tag:#x}/{TAG_MASK:#x}{_ports(allow)} -j ACCEPT"


def _ports(allow: Allow) -> str:
    if (allow.first, allow.last) == ANY:
        return ""
    ports = str(allow.first) if allow.first == allow.last else f"{allow.first}:{allow.last}"
    return f" -m {allow.protocol} --dport {ports}"
