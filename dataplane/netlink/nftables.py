"""Tables of nf_tables in the thread's namespace, ours by their names, each with one base chain: written whole, read, removed.

One batch is one transaction of the kernel's. What is read is bounded by what is expected there: a table and a chain are asked
for by their names, and both say how much they hold before any of it is read. So root in a container may put millions of rules
there.
"""

import struct
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from dataplane.netlink.expressions import ACCEPT, Rule, encoded, is_rule
from host.errors import refused_as
from host.netlink.messages import (
    NETLINK_NETFILTER,
    NFGENMSG_IPV4,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    contents,
    nested,
)
from host.netlink.socket import NetlinkSocket, Request, connect

BATCH_BEGIN, BATCH_END, SUBSYSTEM = 16, 17, 10  # linux/netfilter/nfnetlink.h
# linux/netfilter/nf_tables.h
NEW_TABLE, GET_TABLE, DELETE_TABLE, NEW_CHAIN, GET_CHAIN, NEW_RULE, GET_RULE = (0xA00 + n for n in (0, 1, 2, 3, 4, 6, 7))
TABLE_NAME, TABLE_FLAGS, TABLE_USE = 1, 2, 3
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_USE, CHAIN_TYPE = 1, 3, 4, 5, 6, 7
HOOK_NUMBER, HOOK_PRIORITY = 1, 2
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS = 1, 2, 4
NLM_F_APPEND = 0x800
NUMBER, PRIORITY = struct.Struct("!I"), struct.Struct("!i")
OF_NF_TABLES = struct.pack("!BBH", 0, 0, SUBSYSTEM)
FEW = 16  # the containers of a cell have few different tables at a time
HINT = "the kernel needs nf_tables: CONFIG_NFT_NAT, CONFIG_NFT_REDIR, CONFIG_NFT_CT, with CONFIG_NF_CONNTRACK_ZONES"


class HookPoint(IntEnum):
    """Where a chain stands on a packet's way."""

    OUTPUT = 3
    POSTROUTING = 4


@dataclass(frozen=True, slots=True, eq=False)  # one is told from another by identity: they may have a thousand rules
class HookedTable:
    """A table of IPv4 and its one chain, of type `kind` ("nat", "filter"), which lets pass what no rule decides."""

    name: str
    kind: str
    hook: HookPoint
    priority: int
    rules: tuple[Rule, ...]


def put(wanted: Collection[HookedTable], *, absent: Collection[str] = ()) -> None:
    """Make these, in place of those of the same names, and remove others, at once or not at all; what is right stays.

    Raises HostRefused.
    """
    names = (*(table.name for table in wanted), *absent)
    with refused_as(f"cannot write the nftables {', '.join(names)}", hint=HINT):
        kernel = connect(NETLINK_NETFILTER)
        try:
            found = _tables(kernel, names)
            if not _stand(kernel, wanted, found):
                there = tuple(name for name, each in zip(names, found, strict=True) if each is not None)
                kernel.batch(_batch(there, tuple(wanted)))
        finally:
            # takes 8 to 20 ms: the kernel waits until no processor can see any longer what was removed
            threading.Thread(target=kernel.close, name="nftables-close", daemon=True).start()


def stand(wanted: Collection[HookedTable], *, absent: Collection[str] = ()) -> bool:
    """Whether these are there as they should be, and none of the others. A kernel without nf_tables has none."""
    names = (*(table.name for table in wanted), *absent)
    try:
        with connect(NETLINK_NETFILTER) as kernel:
            return _stand(kernel, wanted, _tables(kernel, names))
    except OSError:
        return not wanted


@lru_cache(maxsize=FEW)
def _batch(unwanted: tuple[str, ...], wanted: tuple[HookedTable, ...]) -> tuple[Request, ...]:
    removals = (Request(DELETE_TABLE, NFGENMSG_IPV4 + _text(TABLE_NAME, name), 0) for name in unwanted)
    changes = [*removals, *(each for table in wanted for each in _creation(table))]
    changes[-1] = changes[-1]._replace(flags=changes[-1].flags | NLM_F_ACK)
    return (Request(BATCH_BEGIN, OF_NF_TABLES, 0), *changes, Request(BATCH_END, OF_NF_TABLES, 0))


def _creation(table: HookedTable) -> Iterator[Request]:
    new = NLM_F_CREATE | NLM_F_EXCL
    yield Request(NEW_TABLE, NFGENMSG_IPV4 + _text(TABLE_NAME, table.name), new)
    hook = attribute(HOOK_NUMBER, NUMBER.pack(table.hook)) + attribute(HOOK_PRIORITY, PRIORITY.pack(table.priority))
    policy = attribute(CHAIN_POLICY, NUMBER.pack(ACCEPT))
    yield Request(NEW_CHAIN, _chain(table) + nested(CHAIN_HOOK, hook) + policy + _text(CHAIN_TYPE, table.kind), new)
    place = NFGENMSG_IPV4 + _text(RULE_TABLE, table.name) + _text(RULE_CHAIN, table.hook.name.lower())
    for rule in _encoded_rules(table):
        yield Request(NEW_RULE, place + nested(RULE_EXPRESSIONS, rule), NLM_F_CREATE | NLM_F_APPEND)


@lru_cache(maxsize=FEW)
def _encoded_rules(table: HookedTable) -> tuple[bytes, ...]:
    return tuple(map(encoded, table.rules))


def _tables(kernel: NetlinkSocket, names: Sequence[str]) -> list[bytes | None]:
    """What the kernel says of each, None where it has none."""
    answers = kernel.ask(GET_TABLE, [NFGENMSG_IPV4 + _text(TABLE_NAME, name) for name in names])
    return [None if isinstance(answer, OSError) else answer for answer in answers]


def _stand(kernel: NetlinkSocket, wanted: Collection[HookedTable], found: Sequence[bytes | None]) -> bool:
    """`found` is of the wanted ones first, then of those that should not be there."""
    if any(each is not None for each in found[len(wanted) :]):
        return False
    return all(each is not None and _is_there(kernel, table, each) for table, each in zip(wanted, found, strict=False))


def _is_there(kernel: NetlinkSocket, table: HookedTable, found: bytes) -> bool:
    about = contents(found, start=len(NFGENMSG_IPV4))
    if (about[TABLE_FLAGS], about[TABLE_USE]) != (NUMBER.pack(0), NUMBER.pack(1)):  # asleep or owned; more than our chain
        return False
    (chain,) = kernel.ask(GET_CHAIN, [_chain(table)])
    if isinstance(chain, OSError) or not _is_chain(table, contents(chain, start=len(NFGENMSG_IPV4))):
        return False
    place = NFGENMSG_IPV4 + _text(RULE_TABLE, table.name) + _text(RULE_CHAIN, table.hook.name.lower())
    bodies = kernel.dump(GET_RULE, place, what=f"rules of nft table {table.name}", most=len(table.rules))
    rules = [contents(body, start=len(NFGENMSG_IPV4)).get(RULE_EXPRESSIONS, b"") for body in bodies]
    return tuple(rules) == _encoded_rules(table) or (
        len(rules) == len(table.rules) and all(map(is_rule, table.rules, rules))  # of a kernel with other words
    )


def _is_chain(table: HookedTable, found: dict[int, bytes]) -> bool:
    """Whether it is hooked as ours is, and has as many rules."""
    hook = contents(found.get(CHAIN_HOOK, b""))
    place = (hook.get(HOOK_NUMBER), hook.get(HOOK_PRIORITY), found.get(CHAIN_TYPE))
    return place == (NUMBER.pack(table.hook), PRIORITY.pack(table.priority), table.kind.encode() + b"\0") and (
        found.get(CHAIN_POLICY),
        found.get(CHAIN_USE),
    ) == (NUMBER.pack(ACCEPT), NUMBER.pack(len(table.rules)))


def _chain(table: HookedTable) -> bytes:
    return NFGENMSG_IPV4 + _text(CHAIN_TABLE, table.name) + _text(CHAIN_NAME, table.hook.name.lower())


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")
