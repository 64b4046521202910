"""Chains of other programs that undo what policies allow: a packet has to pass each base chain of its hook, in both flavours of
iptables and in every table of nft. Our own ACCEPT, and our own exemption from nat, end only the table that they stand in.

Judged without much understanding: a chain that drops what it does not name, in whose table no rule names our links or the
overlay; a rule that translates everything. What is in the tables that our chains stand in is behind our jumps.
"""

import struct
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from enum import Enum, IntEnum
from ipaddress import IPv4Network
from typing import Final

from dataplane.firewall.backends.backends import LOADED, Backend
from dataplane.firewall.backends.driver import TOOL_SECONDS
from dataplane.state import HostService
from dataplane.tables import CHAIN_PREFIX, LINK_PREFIX
from host.errors import HostRefused
from host.netlink.messages import ATTRIBUTE, NETLINK_NETFILTER, attribute, attributes, contents
from host.netlink.socket import NetlinkSocket, connect
from host.process import run

GET_CHAIN, GET_RULE, GET_SET, GET_ELEMENTS = 0xA04, 0xA07, 0xA0A, 0xA0D  # subsystem 10 is nf_tables
TABLE, NAME, RULE_CHAIN, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE = 1, 2, 2, 3, 4, 5, 7
HOOK_NUMBER, HOOK_PRIORITY, EXPRESSIONS, ELEMENT, DATA, VALUE, VERDICT = 1, 2, 4, 1, 2, 1, 2
FAMILIES: Final = {1: "inet", 2: "ip"}
SOURCE_NAT: Final = 100  # the priority of both flavours' nat POSTROUTING
DROP = struct.pack("!I", 0)
INSIGNIFICANT: Final = {b"counter", b"log", b"comment"}
REFUSALS: Final = {b"reject", b"REJECT", b"DROP"}
TRANSLATIONS: Final = {b"masq", b"nat", b"MASQUERADE", b"SNAT"}


class Hook(IntEnum):
    """Where a base chain stands, by the kernel's numbers; named as iptables does."""

    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


class Harm(Enum):
    """What becomes of a packet of ours."""

    DROPPED = "drops what it does not name, also what policies allow"
    TRANSLATED = "may translate what is sent within the overlay, so that an app does not see its caller"


@dataclass(frozen=True, slots=True)
class HarmfulChain:
    """`where` is for people; `remedy` a command that exempts us."""

    where: str
    harm: Harm
    remedy: str


@dataclass(frozen=True, slots=True)
class Passage:
    """What has to get through. `ports` of this host: the tunnel's, DNS, services for containers; `sent`: to other cells."""

    overlay: IPv4Network
    ports: tuple[HostService, ...] = ()
    sent: tuple[HostService, ...] = ()

    def ports_at(self, hook: Hook) -> tuple[HostService, ...]:
        """The ports of what comes to this host, or is sent by it."""
        return {Hook.INPUT: self.ports, Hook.OUTPUT: self.sent}.get(hook, ())

    def unnamed(self, hook: Hook, is_named: Callable[[int], bool]) -> "Wanted | None":
        """The first thing that has to get through there and of which no rule speaks; None where there is none."""
        if hook is Hook.FORWARD:
            return Wanted(self.overlay)
        return next((Wanted(self.overlay, each) for each in self.ports_at(hook) if not is_named(each.port)), None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to get through: packets to a port of this host, or without one those between containers."""

    overlay: IPv4Network
    port: HostService | None = None

    def exempted(self) -> str:
        """A rule of iptables that lets it through."""
        if self.port is not None:
            return f"-p {self.port.protocol} --dport {self.port.port} -j ACCEPT"
        return f"-s {self.overlay} -d {self.overlay} -j ACCEPT"

    def exempted_by_nft(self) -> str:
        """A rule of nft that lets it through."""
        if self.port is not None:
            return f"{self.port.protocol} dport {self.port.port} accept"
        return f"ip saddr {self.overlay} ip daddr {self.overlay} accept"


def harmful_chains(own: Backend, passage: Passage) -> tuple[HarmfulChain, ...]:
    """Those in the namespace of the calling thread; `own` is the flavour that our rules are in. Raises HostRefused."""
    found: list[HarmfulChain] = []
    if own is Backend.NFT and LOADED.exists():
        tables = LOADED.read_text().split()
        found += [each for table in ("filter", "nat") if table in tables for each in _of_legacy(table, passage)]
    try:
        with connect(NETLINK_NETFILTER) as link:
            found += _of_nft(link, passage)
    except HostRefused:
        if own is Backend.NFT:  # a kernel for legacy alone has no nft
            raise
    return tuple(found)


# iptables-legacy, by what its tool prints


def _of_legacy(table: str, passage: Passage) -> Iterator[HarmfulChain]:
    lines = run(["iptables-legacy-save", "-t", table], timeout=TOOL_SECONDS).decode().splitlines()

    def made(hook: Hook, harm: Harm, wanted: Wanted) -> HarmfulChain:
        remedy = f"iptables-legacy -t {table} -I {hook.name} {wanted.exempted()}"
        return HarmfulChain(f"chain {hook.name} of iptables-legacy", harm, remedy)

    def is_named(port: int) -> bool:
        return any(f"--dport {port}" in line for line in lines)

    if table == "nat":
        if any(line.startswith(("-A POSTROUTING -j MASQUERADE", "-A POSTROUTING -j SNAT")) for line in lines):
            yield made(Hook.POSTROUTING, Harm.TRANSLATED, Wanted(passage.overlay))
        return
    for hook in (Hook.FORWARD, Hook.INPUT, Hook.OUTPUT):
        ends = (f":{hook.name} DROP", f"-A {hook.name} -j DROP", f"-A {hook.name} -j REJECT")
        marks = (f" {LINK_PREFIX}", str(passage.overlay))
        closed = any(line.startswith(ends) for line in lines)
        wanted = passage.unnamed(hook, is_named)
        if wanted is not None and closed and not any(mark in line for line in lines for mark in marks):
            yield made(hook, Harm.DROPPED, wanted)


# nft, by netlink


@dataclass(frozen=True, slots=True)
class _BaseChain:
    family: int
    table: bytes
    name: bytes
    hook: Hook
    priority: int
    drops: bool
    translates: bool

    def __str__(self) -> str:
        return f"chain {self.name.decode()} of nft table {FAMILIES[self.family]} {self.table.decode()}"

    def remedy(self, wanted: Wanted) -> str:
        if FAMILIES[self.family] == "ip" and self.name.decode() == self.hook.name:  # of iptables-nft
            return f"iptables-nft -t {self.table.decode()} -I {self.hook.name} {wanted.exempted()}"
        where = f"{FAMILIES[self.family]} {self.table.decode()} {self.name.decode()}"
        return f"nft insert rule {where} {wanted.exempted_by_nft()}"


def _of_nft(link: NetlinkSocket, passage: Passage) -> Iterator[HarmfulChain]:
    for chain in _base_chains(link):
        rules = [
            (fields[RULE_CHAIN].rstrip(b"\0"), fields.get(EXPRESSIONS, b""))
            for fields in _dump(link, GET_RULE, chain, what="rules of nft")
        ]
        here = [expressions for name, expressions in rules if name == chain.name]
        if chain.translates and chain.priority <= SOURCE_NAT and any(_is_for_all(rule, TRANSLATIONS) for rule in here):
            yield HarmfulChain(str(chain), Harm.TRANSLATED, chain.remedy(Wanted(passage.overlay)))
        elif not chain.translates and passage.unnamed(chain.hook, lambda _: False):
            closed = chain.drops or any(_is_for_all(rule, REFUSALS) for rule in here)
            wanted = _not_named(link, chain, [rule for _, rule in rules], passage) if closed else None
            if wanted is not None:
                yield HarmfulChain(str(chain), Harm.DROPPED, chain.remedy(wanted))


def _base_chains(link: NetlinkSocket) -> list[_BaseChain]:
    """Those that packets of ours meet, outside of our own tables."""
    found, ours = [], set()
    for body in link.dump(GET_CHAIN, bytes(4), what="chains of nft"):
        fields = contents(body, start=4)
        family, table, name = body[0], fields[TABLE].rstrip(b"\0"), fields[CHAIN_NAME].rstrip(b"\0")
        if name.startswith(CHAIN_PREFIX.encode()):
            ours.add((family, table))
        if CHAIN_HOOK not in fields or family not in FAMILIES:
            continue
        hook, kind = contents(fields[CHAIN_HOOK]), fields[CHAIN_TYPE].rstrip(b"\0")
        number, priority = struct.unpack("!I", hook[HOOK_NUMBER])[0], struct.unpack("!i", hook[HOOK_PRIORITY])[0]
        if number in list(Hook) and (kind == b"nat") == (number == Hook.POSTROUTING):
            drops = fields.get(CHAIN_POLICY) == DROP
            found.append(_BaseChain(family, table, name, Hook(number), priority, drops, translates=kind == b"nat"))
    return [each for each in found if (each.family, each.table) not in ours]


def _dump(link: NetlinkSocket, kind: int, chain: _BaseChain, more: bytes = b"", *, what: str) -> list[dict[int, bytes]]:
    asked = struct.pack("=BBH", chain.family, 0, 0) + attribute(TABLE, chain.table + b"\0") + more
    return [contents(body, start=4) for body in link.dump(kind, asked, what=what)]


def _is_for_all(rule: bytes, ends: Set[bytes]) -> bool:
    """Whether a rule has no condition, and one of these ends."""
    found = False
    for kind, begin, end in attributes(rule):
        if kind != ELEMENT:
            continue
        expression = contents(rule[begin:end])
        name, data = expression[1].rstrip(b"\0"), contents(expression.get(DATA, b""))
        if name in (b"target", b"match"):  # of iptables
            name = data[1].rstrip(b"\0")
        elif name == b"immediate":
            verdict = contents(contents(data.get(DATA, b"")).get(VERDICT, b""))
            name = b"DROP" if verdict.get(1) == DROP else name
            if name == b"immediate" and VERDICT not in contents(data.get(DATA, b"")):
                continue  # an address to translate to
        found = found or name in ends
        if name not in ends and name not in INSIGNIFICANT:
            return False
    return found


def _not_named(link: NetlinkSocket, chain: _BaseChain, rules: list[bytes], passage: Passage) -> Wanted | None:
    """What no rule of the table, and no element of its sets, speaks of: by our links', the overlay's or a port's name in it."""
    network, length = passage.overlay.network_address.packed, passage.overlay.prefixlen // 8
    for fields in _dump(link, GET_SET, chain, what="sets of nft"):
        more = attribute(NAME, fields[NAME])
        rules += [each.get(3, b"") for each in _dump(link, GET_ELEMENTS, chain, more, what="a set of nft")]

    def is_named(*marks: bytes) -> bool:
        return any(mark in rule for rule in rules for mark in marks)

    if is_named(LINK_PREFIX.encode(), _value(network), _value(network[:length])):
        return None
    # as a value of nft, and as a match of iptables
    return passage.unnamed(chain.hook, lambda port: is_named(_value(struct.pack("!H", port)), struct.pack("=HH", port, port)))


def _value(content: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(content), VALUE) + content
