"""Ports as users write them: 8080, 9000-9010, any; with a protocol on the command line, tcp/8080, and icmp/echo."""

import re
from collections.abc import Iterable

from agent.errors import InvalidInput
from agent.model.policy import ANY_PORT, ECHO, Ports, Protocol
from dataplane.state import INBOUND_PORT, OUTBOUND_PORT

RANGE = re.compile(r"(0|[1-9][0-9]*)(?:-(0|[1-9][0-9]*))?")
RANGE_HINT = "a port from 1 to 65535, a range such as 9000-9010, or any"
TUNNEL_PORTS = (OUTBOUND_PORT, INBOUND_PORT)
ARGUMENT_HINT = "e.g. tcp/8080, udp/53, tcp/9000-9010, tcp/any or icmp/echo"


def parse_range(text: str) -> Ports:
    """`8080`, `9000-9010` or `any`. Raises InvalidInput."""
    if text == "any":
        return ANY_PORT
    match = RANGE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"'{text}' is not a port or a range of ports", hint=RANGE_HINT)
    first, last = _port(match[1]), _port(match[2] or match[1])
    if first > last:
        raise InvalidInput(f"range {text} is reversed", hint=f"did you mean {last}-{first}?")
    return Ports(first, last)


def _port(digits: str) -> int:
    number = int(digits[:6])  # more digits cannot be a port, and int() of thousands of them takes long
    if not 1 <= number <= 65535:
        raise InvalidInput(f"port {digits[:20]} is out of range", hint="1 to 65535 is possible")
    return number


def parse_argument(text: str) -> tuple[Protocol, Ports]:
    """`tcp/8080`, `udp/53`, `tcp/9000-9010`, `tcp/any`, `icmp/echo`, as `policy allow` takes it. Raises InvalidInput.

    So it does for the ends of tunnels, which no policy opens: a wide range may contain them.
    """
    protocol, slash, ports = text.partition("/")
    if protocol == Protocol.ICMP.value:
        if ports != str(ECHO):
            raise InvalidInput(f"'{text}' cannot be allowed", hint="of ICMP there is icmp/echo")
        return Protocol.ICMP, ECHO
    if not slash or protocol not in ("tcp", "udp"):
        raise InvalidInput(f"'{text}' is not a protocol and a port", hint=ARGUMENT_HINT)
    return Protocol(protocol), not_a_tunnels(protocol, parse_range(ports))


def not_a_tunnels(protocol: str, ports: Ports) -> Ports:
    """The same, unless it is an end of tunnels and nothing else. Raises InvalidInput."""
    if protocol == "tcp" and ports.first == ports.last and ports.first in TUNNEL_PORTS:
        raise InvalidInput(
            f"port {ports.first} is cellnet's own in every container", hint="name the port of the app: tunnels need no policy"
        )
    return ports


def parse_one(text: str) -> tuple[Protocol, int]:
    """`tcp/8080`: exactly one port, as `policy check` takes it; 0 of `icmp/echo`. Raises InvalidInput."""
    protocol, ports = parse_argument(text)
    if ports.first != ports.last:
        raise InvalidInput(f"'{text}' is more than one port", hint="ask for one port, e.g. tcp/8080")
    return protocol, ports.first


def merged(ranges: Iterable[Ports]) -> tuple[Ports, ...]:
    """The same ports in as few ranges as possible, ascending."""
    result: list[Ports] = []
    for each in sorted(ranges):
        if result and each.first <= result[-1].last + 1:
            result[-1] = Ports(result[-1].first, max(result[-1].last, each.last))
        else:
            result.append(each)
    return tuple(result)


def without(one: tuple[Ports, ...], other: tuple[Ports, ...]) -> tuple[Ports, ...]:
    """The ports of `one` that are not in `other`; both ascending, none overlapping."""
    found: list[Ports] = []
    for each in one:
        first = each.first
        for taken in other:
            if taken.last < first or taken.first > each.last:
                continue
            if taken.first > first:
                found.append(Ports(first, taken.first - 1))
            first = taken.last + 1
        if first <= each.last:
            found.append(Ports(first, each.last))
    return tuple(found)
