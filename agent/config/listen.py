"""`metrics.listen`: an address of this host and a port."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from agent.config.problems import Report
from agent.config.source import Node, Scalar
from agent.config.values import parsed
from agent.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address of this host, or 0.0.0.0 for all, and a TCP port."""

    address: IPv4Address
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


def listen_address(text: str) -> ListenAddress:
    """`192.0.2.10:9465`."""
    address, _, port = text.rpartition(":")
    hint = "ADDRESS:PORT, e.g. 192.0.2.10:9465, or none"
    try:
        found = IPv4Address(address)
    except ValueError as error:
        raise InvalidInput(f"'{text}' is no address to listen at", hint=hint) from error
    if not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535) or found.is_multicast:
        raise InvalidInput(f"'{text}' is no address to listen at", hint=hint)
    return ListenAddress(found, int(port))


def read_listen(node: Node, report: Report) -> ListenAddress | None:
    """`none`, or an address."""
    return None if isinstance(node, Scalar) and node.text == "none" else parsed(listen_address)(node, report)
