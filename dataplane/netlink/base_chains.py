"""Chains of nf_tables where iptables-nft has its rules: what is there, and what is there for nothing any more.

iptables-nft makes a table, and in it a chain for each hook, with the first rule that needs them, and leaves them there empty.
"""

import struct
from collections import Counter
from collections.abc import Collection, Iterator

from dataplane.netlink.expressions import ACCEPT
from dataplane.netlink.nftables import (
    BATCH_BEGIN,
    BATCH_END,
    CHAIN_HOOK,
    CHAIN_NAME,
    CHAIN_POLICY,
    CHAIN_TABLE,
    CHAIN_USE,
    DELETE_TABLE,
    GET_CHAIN,
    GET_TABLE,
    NEW_CHAIN,
    NUMBER,
    OF_NF_TABLES,
    TABLE_NAME,
    TABLE_USE,
)
from dataplane.tables import ChainKey
from host.errors import HostRefused
from host.netlink.messages import (
    NETLINK_NETFILTER,
    NFGENMSG_IPV4,
    NFGENMSG_IPV6,
    NLM_F_ACK,
    attribute,
    contents,
)
from host.netlink.socket import NetlinkSocket, Request, connect

DELETE_CHAIN = NEW_CHAIN + 2
GET_GENERATION, GENERATION = 0xA10, 1
BATCH_GENERATION = 1  # NFNL_BATCH_GENID: the batch is refused where another program has changed something since
HEADS = {4: NFGENMSG_IPV4, 6: NFGENMSG_IPV6}
TABLES = frozenset({"raw", "mangle", "nat", "filter", "security"})
TRIES = 8


def places() -> frozenset[ChainKey]:
    """Where there are chains, in the calling thread's namespace. Raises HostRefused."""
    with connect(NETLINK_NETFILTER) as kernel:
        return frozenset(place for family in HEADS for place, _ in _chains(kernel, family))


def remove_unused(before: Collection[ChainKey]) -> tuple[ChainKey, ...]:
    """Remove chains that decide nothing and are none of `before`, and with the last one its table; those that were.

    Nothing goes where other programs change rules again and again meanwhile. Raises HostRefused.
    """
    for _ in range(TRIES):
        with connect(NETLINK_NETFILTER) as kernel:
            generation = _generation(kernel)
            gone = [place for family in HEADS for place, decides in _chains(kernel, family) if not decides]
            gone = sorted(set(gone).difference(before))
            if not gone:
                return ()
            removals = list(_removals(kernel, gone, before))
            removals[-1] = removals[-1]._replace(flags=NLM_F_ACK)
            begin = OF_NF_TABLES + attribute(BATCH_GENERATION, NUMBER.pack(generation))
            try:
                kernel.batch((Request(BATCH_BEGIN, begin, 0), *removals, Request(BATCH_END, OF_NF_TABLES, 0)))
            except OSError:
                continue
        return tuple(gone)
    return ()


def _chains(kernel: NetlinkSocket, family: int) -> Iterator[tuple[ChainKey, bool]]:
    """Each with whether it decides something: only what is hooked, accepts all, and holds no rule does not."""
    for body in kernel.dump(GET_CHAIN, HEADS[family], what="chains of nf_tables"):
        found = contents(body, start=len(HEADS[family]))
        place = ChainKey(family, _text(found[CHAIN_TABLE]), _text(found[CHAIN_NAME]))
        idle = (found.get(CHAIN_POLICY), found.get(CHAIN_USE)) == (NUMBER.pack(ACCEPT), NUMBER.pack(0))
        if place.table in TABLES:
            yield place, not (CHAIN_HOOK in found and idle)


def _removals(kernel: NetlinkSocket, gone: Collection[ChainKey], before: Collection[ChainKey]) -> Iterator[Request]:
    """A table that holds nothing else goes as a whole."""
    counts, kept = Counter((each.family, each.table) for each in gone), {(each.family, each.table) for each in before}
    for (family, table), count in counts.items():
        named = HEADS[family] + attribute(TABLE_NAME, table.encode() + b"\0")
        (answer,) = kernel.ask(GET_TABLE, [named])
        use = b"" if isinstance(answer, OSError) else contents(answer, start=len(HEADS[family])).get(TABLE_USE)
        if use == NUMBER.pack(count) and (family, table) not in kept:
            yield Request(DELETE_TABLE, named, 0)
            continue
        for each in gone:
            if (each.family, each.table) == (family, table):
                yield Request(DELETE_CHAIN, HEADS[family] + _named(each), 0)


def _named(place: ChainKey) -> bytes:
    return attribute(CHAIN_TABLE, place.table.encode() + b"\0") + attribute(CHAIN_NAME, place.chain.encode() + b"\0")


def _generation(kernel: NetlinkSocket) -> int:
    (answer,) = kernel.ask(GET_GENERATION, [bytes(4)])
    if isinstance(answer, OSError):
        raise HostRefused(f"cannot ask for the generation of nf_tables: {answer.strerror}", hint="cellnet needs root")
    found: int = struct.unpack("!I", contents(answer, start=4)[GENERATION])[0]
    return found


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
