"""`dns.upstreams`: the name servers that are asked for what is not this cell's."""

from ipaddress import IPv4Address, ip_address

from agent.config.problems import Report
from agent.config.source import Node, Scalar
from agent.config.values import listing, parsed
from agent.errors import InvalidInput
from dataplane.dns.command import Upstream

PORT = 53
HINT = "an address, and the port if it is not 53, e.g. 192.0.2.53#5353"


def upstream(text: str) -> Upstream:
    """`192.0.2.53` or `192.0.2.53#5353`; IPv6 too."""
    address, mark, port = text.partition("#")
    try:
        found = ip_address(address)
    except ValueError as error:
        raise InvalidInput(f"'{text}' is not the address of a name server", hint=HINT) from error
    if found.is_unspecified or found.is_multicast:
        raise InvalidInput(f"{text} cannot be a name server", hint=HINT)
    if mark and not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
        raise InvalidInput(f"'{port}' is not a port", hint=HINT)
    return Upstream(found, int(port) if mark else PORT)


def upstream_list(node: Node, report: Report) -> tuple[Upstream, ...] | None:
    """`none`, or a list."""
    if isinstance(node, Scalar) and node.text == "none":
        return ()
    if isinstance(node, Scalar):
        report.wrong(node, f"'{node.text}' is not possible here", hint="auto, none, or a list such as [192.0.2.53]")
        return None
    return listing(parsed(upstream))(node, report)


def resolver_address(text: str) -> IPv4Address:
    """An address that containers reach by their default route, and nothing else has."""
    try:
        found = IPv4Address(text)
    except ValueError as error:
        raise InvalidInput(f"'{text}' is not an IPv4 address", hint="e.g. 169.254.0.2") from error
    if found.is_loopback or found.is_multicast or found.is_unspecified or found.is_reserved:
        raise InvalidInput(f"{text} cannot be the resolver's address", hint="one that nothing else has, e.g. 169.254.0.2")
    return found
