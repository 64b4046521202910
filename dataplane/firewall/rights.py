"""Rights as rules: the chain of one container and the chain that a group shares, both in parts where they are long.

A chain is a list that a new connection walks until a rule fits, at some ten nanoseconds a rule. Above 250 rules it is split
by the lowest bits of the tag into 16 lists. What an audit alone lets pass is asked for behind all of it, in a chain of its own,
so that it costs no other packet anything. Established packets never come here. Pure, and cached for as long as the rights
themselves live: of 250 containers usually one has changed.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Final

from dataplane.firewall.matches import crowded, ports_match
from dataplane.memo import Memo
from dataplane.state import INBOUND_PORT, Allow
from dataplane.tables import CELLFUL, CHAIN_PREFIX, TAG_MASK

LONGEST = 250
PARTS = 16
REFUSE = "-j CELLNET-REJECT"
AUDIT = "CELLNET-AUDIT"
ACCEPT, NOTE = "-j ACCEPT", f"-g {AUDIT}"
# Tunnels that one address may have open to one container, beside other callers' in what Envoy takes for it
MOST_TUNNELS: Final = 512
CROWDED: Final = f"{crowded(INBOUND_PORT, MOST_TUNNELS)} -j CELLNET-EXCESS"

Chains = Mapping[str, tuple[str, ...]]

_containers: Memo[frozenset[Allow], dict[tuple[IPv4Address, bool], Chains]] = Memo(lambda _: {})
_groups: Memo[frozenset[int], dict[tuple[str, bool], Chains]] = Memo(lambda _: {})

_audits: Memo[frozenset[Allow], frozenset[Allow]] = Memo(lambda allows: frozenset(each for each in allows if each.audit))


@lru_cache(maxsize=CELLFUL)
def container_chain(address: IPv4Address) -> str:
    """Name of the chain that decides what reaches one container."""
    return f"{CHAIN_PREFIX}{int(address):08x}"


def group_chain(name: str, *, audit: bool = False) -> str:
    """Name of a group's chain; iptables takes 28 characters, so the group's is hashed."""
    return f"{CHAIN_PREFIX}{'AUDIT' if audit else 'IN'}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def audits(allows: frozenset[Allow]) -> frozenset[Allow]:
    """Those that are an audit's."""
    return _audits.of(allows)


def of_container(address: IPv4Address, allows: frozenset[Allow], *, tunnels: bool = False) -> Chains:
    """One rule for each right, then refusal; groups first, in whose own chains there is no refusal.

    With `tunnels` too many of one address are refused before.
    """
    known = _containers.of(allows)
    if (address, tunnels) not in known:
        limit, chain = (CROWDED,) if tunnels else (), container_chain(address)
        audited = _watched(audits(allows), tunnels=tunnels)
        watched = f"{chain}-audit"
        end = (f"-g {watched}",) if audited else (REFUSE,)
        known[address, tunnels] = {
            **_of_rights(chain, sorted(allows - audits(allows)), before=limit, end=end),
            **(_of_rights(watched, audited, before=(), end=(REFUSE,)) if audited else {}),
        }
    return known[address, tunnels]


def _watched(allows: frozenset[Allow], *, tunnels: bool) -> tuple[Allow, ...]:
    """Those of audits in their order. Into tunnels first, without a note: Envoy tells which streams pass by an audit."""
    ends = {
        each for each in allows if tunnels and (each.protocol, each.first, each.last) == ("tcp", INBOUND_PORT, INBOUND_PORT)
    }
    return (*(replace(each, audit=False) for each in sorted(ends)), *sorted(allows - ends))


def _of_rights(chain: str, allows: Collection[Allow], *, before: tuple[str, ...], end: tuple[str, ...]) -> Chains:
    groups = tuple(rule_of(each) for each in allows if each.group)
    single = tuple((each.tag, rule_of(each)) for each in allows if not each.group)
    return _in_parts(chain, single, before=(*before, *groups), end=end)


def rule_of(allow: Allow) -> str:
    """The rule of one right, in the container's chain or a part of it."""
    return _in_group(allow) if allow.group else _admit(allow)


def of_group(name: str, tags: frozenset[int], *, audit: bool = False) -> Chains:
    """Lets each tag pass, in an `audit` with a note; a packet with another goes back to where the jump stood."""
    known, key = _groups.of(tags), (name, audit)
    if key not in known:
        single = tuple((tag, f"{_tagged(tag)} {NOTE if audit else ACCEPT}") for tag in sorted(tags))
        known[key] = _in_parts(group_chain(name, audit=audit), single, before=(), end=())
    return known[key]


def _in_parts(chain: str, rules: tuple[tuple[int, str], ...], *, before: tuple[str, ...], end: tuple[str, ...]) -> Chains:
    if len(rules) <= LONGEST:
        return {chain: (*before, *(text for _, text in rules), *end)}
    parts: dict[int, list[str]] = {}
    for tag, text in rules:
        parts.setdefault(tag % PARTS, []).append(text)
    found = {f"{chain}-{part:x}": (*texts, *end) for part, texts in sorted(parts.items())}
    # goto: the end of a part of a group's chain leads back to where the jump to the group stood
    choices = (f"-m mark --mark {part:#x}/{PARTS - 1:#x} -g {chain}-{part:x}" for part in sorted(parts))
    return {chain: (*before, *choices, *end), **found}


def _in_group(allow: Allow) -> str:
    return f"-p {allow.protocol}{ports_match(allow)} -j {group_chain(allow.group, audit=allow.audit)}"


def _admit(allow: Allow) -> str:
    return f"-p {allow.protocol} {_tagged(allow.tag)}{ports_match(allow)} {NOTE if allow.audit else ACCEPT}"


def _tagged(tag: int) -> str:
    return f"-m mark --mark {tag:#x}/{TAG_MASK:#x}"
