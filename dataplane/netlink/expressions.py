"""Expressions of nf_tables' rules, as values: what a packet must be, and what becomes of it.

A rule is a row of them. Each must be met, from the first on, and the last says what becomes of the packet. All that is
looked at goes through one register.

An attribute is a value, too, so that what was written is what is compared. All are in the order in which kernels give them
back, so that most often the bytes are the same; but a rule is ours in any order, and with whatever a newer kernel says besides.
"""

import struct
from ipaddress import IPv4Address
from typing import NamedTuple, TypeAlias

from host.netlink.messages import attribute, attributes, contents

# linux/netfilter/nf_tables.h
ELEMENT, EXPRESSION_NAME, EXPRESSION_DATA = 1, 1, 2
META_INTO, META_KEY, META_MARK, META_OUT, META_PROTOCOL = 1, 2, 3, 5, 16
PAYLOAD_INTO, PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LENGTH, OF_NETWORK, OF_TRANSPORT = 1, 2, 3, 4, 1, 2
BITS_FROM, BITS_INTO, BITS_LENGTH, BITS_MASK, BITS_XOR, BITS_OPERATION, MASK_AND_XOR = 1, 2, 3, 4, 5, 6, 0
COMPARED, COMPARISON, COMPARED_WITH, EQUAL, UNEQUAL = 1, 2, 3, 0, 1
RANGE_OF, RANGE_TEST, RANGE_FIRST, RANGE_LAST, WITHIN = 1, 2, 3, 4, 0
IMMEDIATE_INTO, IMMEDIATE_DATA = 1, 2
TRACKING_KEY, TRACKING_DIRECTION, TRACKING_FROM, TRACKING_ZONE, OF_THE_OPENER = 2, 3, 4, 17, 0
REDIRECT_FIRST_PORT, REDIRECT_LAST_PORT, REDIRECT_FLAGS, PORT_IS_SAID = 1, 2, 3, 2
VALUE, VERDICT, CODE = 1, 2, 1
ACCEPT, DROP = 1, 0
REGISTER, VERDICT_REGISTER = 1, 0
DESTINATION = (OF_NETWORK, 16, 4)  # where in a packet: header, offset, length
SOURCE_PORT, DESTINATION_PORT, TCP_FLAGS = (OF_TRANSPORT, 0, 2), (OF_TRANSPORT, 2, 2), (OF_TRANSPORT, 13, 1)
TCP_FIN, TCP_SYN, TCP_RESET, TCP_ACK = 0x01, 0x02, 0x04, 0x10


class Attribute(NamedTuple):
    """`content` is bytes, or the attributes inside."""

    kind: int
    content: "Content"


Content: TypeAlias = bytes | tuple[Attribute, ...]
Rule: TypeAlias = tuple[Attribute, ...]


def encoded(content: Content) -> bytes:
    """As it goes to the kernel."""
    if isinstance(content, bytes):
        return content
    return b"".join(attribute(each.kind, encoded(each.content)) for each in content)


def is_in(content: Content, found: bytes) -> bool:
    """Whether `found`, which the kernel gave back, says all that `content` says."""
    if isinstance(content, bytes):
        return content == found
    inside = contents(found)
    return all(each.kind in inside and is_in(each.content, inside[each.kind]) for each in content)


def is_rule(rule: Rule, found: bytes) -> bool:
    """Whether these expressions, as the kernel gave them back, are those of `rule`, no less and no more."""
    elements = [found[begin:end] for _, begin, end in attributes(found)]
    return len(elements) == len(rule) and all(map(is_in, (each.content for each in rule), elements))


# what a packet must be


def of_protocol(number: int) -> Rule:
    """Of this one above IP."""
    return (_meta(META_PROTOCOL), _compared(EQUAL, bytes([number])))


def out_of(index: int, *, other: bool = False) -> Rule:
    """Leaving by the link of this index, or by any other one."""
    return (_meta(META_OUT), _compared(UNEQUAL if other else EQUAL, struct.pack("=I", index)))


def marked(mark: int, *, mask: int) -> Rule:
    """With a mark that is this one in the bits of `mask`."""
    return (_meta(META_MARK), _masked(struct.pack("=I", mask)), _compared(EQUAL, struct.pack("=I", mark)))


def to_addresses(first: IPv4Address, last: IPv4Address) -> Rule:
    """To one of these."""
    ends = (Attribute(RANGE_FIRST, _value(first.packed)), Attribute(RANGE_LAST, _value(last.packed)))
    return (
        _loaded(DESTINATION),
        _expression("range", Attribute(RANGE_OF, _number(REGISTER)), Attribute(RANGE_TEST, _number(WITHIN)), *ends),
    )


def to_no_port(*ports: int) -> Rule:
    """To a port that is none of these."""
    return _no_port(DESTINATION_PORT, ports)


def from_no_port(*ports: int) -> Rule:
    """From a port that is none of these."""
    return _no_port(SOURCE_PORT, ports)


def opening() -> Rule:
    """A connection's first packet, of TCP."""
    return _with_flags(TCP_SYN, of=TCP_FIN | TCP_SYN | TCP_RESET | TCP_ACK)


def no_reset() -> Rule:
    """Not TCP's own end of a connection that is broken off."""
    return _with_flags(0, of=TCP_RESET)


# what becomes of it


def verdict(code: int) -> Rule:
    """ACCEPT or DROP, where no later chain says otherwise."""
    decided = (Attribute(VERDICT, (Attribute(CODE, _number(code)),)),)
    return (_expression("immediate", Attribute(IMMEDIATE_INTO, _number(VERDICT_REGISTER)), Attribute(IMMEDIATE_DATA, decided)),)


def redirected(port: int) -> Rule:
    """Goes to this port of 127.0.0.1."""
    value = Attribute(IMMEDIATE_DATA, _value(struct.pack("!H", port)))
    ports = (Attribute(end, _number(REGISTER)) for end in (REDIRECT_FIRST_PORT, REDIRECT_LAST_PORT))
    return (
        _expression("immediate", Attribute(IMMEDIATE_INTO, _number(REGISTER)), value),
        _expression("redir", *ports, Attribute(REDIRECT_FLAGS, _number(PORT_IS_SAID))),
    )


def followed_apart(zone: int) -> Rule:
    """What the opener of a connection sends is looked for in this zone of conntrack, where no other connection is."""
    value = Attribute(IMMEDIATE_DATA, _value(struct.pack("=H", zone)))
    key, direction = Attribute(TRACKING_KEY, _number(TRACKING_ZONE)), Attribute(TRACKING_DIRECTION, bytes([OF_THE_OPENER]))
    return (
        _expression("immediate", Attribute(IMMEDIATE_INTO, _number(REGISTER)), value),
        _expression("ct", Attribute(TRACKING_FROM, _number(REGISTER)), key, direction),
    )


def _expression(name: str, *about: Attribute) -> Attribute:
    return Attribute(ELEMENT, (Attribute(EXPRESSION_NAME, name.encode() + b"\0"), Attribute(EXPRESSION_DATA, about)))


def _meta(key: int) -> Attribute:
    return _expression("meta", Attribute(META_KEY, _number(key)), Attribute(META_INTO, _number(REGISTER)))


def _loaded(where: tuple[int, int, int]) -> Attribute:
    fields = zip((PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LENGTH), where, strict=True)
    about = (Attribute(kind, _number(number)) for kind, number in fields)
    return _expression("payload", Attribute(PAYLOAD_INTO, _number(REGISTER)), *about)


def _compared(comparison: int, value: bytes) -> Attribute:
    how = (Attribute(COMPARED, _number(REGISTER)), Attribute(COMPARISON, _number(comparison)))
    return _expression("cmp", *how, Attribute(COMPARED_WITH, _value(value)))


def _no_port(where: tuple[int, int, int], ports: tuple[int, ...]) -> Rule:
    return (_loaded(where), *(_compared(UNEQUAL, struct.pack("!H", port)) for port in ports))


def _with_flags(flags: int, *, of: int) -> Rule:
    return (_loaded(TCP_FLAGS), _masked(bytes([of])), _compared(EQUAL, bytes([flags])))


def _masked(mask: bytes) -> Attribute:
    return _expression(
        "bitwise",
        *(Attribute(each, _number(REGISTER)) for each in (BITS_FROM, BITS_INTO)),
        Attribute(BITS_LENGTH, _number(len(mask))),
        Attribute(BITS_OPERATION, _number(MASK_AND_XOR)),
        Attribute(BITS_MASK, _value(mask)),
        Attribute(BITS_XOR, _value(bytes(len(mask)))),
    )


def _value(value: bytes) -> Content:
    return (Attribute(VALUE, value),)


def _number(number: int) -> bytes:
    return struct.pack("!I", number)
