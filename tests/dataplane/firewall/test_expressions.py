"""Rules of nf_tables as the kernel gives them back: the same in other words, or others."""

import socket
from ipaddress import IPv4Address

from dataplane.netlink import expressions
from dataplane.netlink.expressions import (
    DROP,
    Attribute,
    Content,
    Rule,
    encoded,
    is_rule,
    of_protocol,
    out_of,
    to_addresses,
    verdict,
)
from host.netlink.messages import NLA_F_NESTED, attribute

RULE: Rule = (
    *of_protocol(socket.IPPROTO_TCP),
    *out_of(1, other=True),
    *to_addresses(IPv4Address("10.255.0.0"), IPv4Address("10.255.255.255")),
    *verdict(DROP),
)


def in_other_words(content: Content) -> bytes:
    """The other way round, with the mark of what has attributes inside, and with one that nobody knows yet."""
    if isinstance(content, bytes):
        return content
    inside = b"".join(
        attribute(each.kind | (0 if isinstance(each.content, bytes) else NLA_F_NESTED), in_other_words(each.content))
        for each in reversed(content)
    )
    return attribute(99, b"new") + inside


def test_a_rule_is_the_same_in_other_words() -> None:
    assert is_rule(RULE, encoded(RULE))
    assert is_rule(RULE, b"".join(attribute(expressions.ELEMENT, in_other_words(each.content)) for each in RULE))


def changed(content: Content, where: int) -> tuple[Content, int]:
    """With the value at place `where` changed; how many there are."""
    if isinstance(content, bytes):
        return (content[:-1] + bytes([content[-1] ^ 1]) if where == 0 else content), 1
    made, count = [], 0
    for each in content:
        inside, more = changed(each.content, where - count)
        made.append(Attribute(each.kind, inside))
        count += more
    return tuple(made), count


def test_a_rule_with_one_other_value_is_another() -> None:
    _, count = changed(RULE, -1)
    assert count > 20
    assert not [where for where in range(count) if is_rule(RULE, encoded(changed(RULE, where)[0]))]


def test_a_rule_with_less_or_more_is_another() -> None:
    for other in (RULE[:-1], RULE[1:], (*RULE, RULE[-1]), RULE[::-1], ()):
        assert not is_rule(RULE, encoded(other))
    assert not is_rule(RULE, encoded(RULE)[:-4])
