"""The ends outside: the addresses and hosts that containers call, those that call them, and where containers are published."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tests.testlib.oracle import TLS
from tests.walk.calls import TCP, UDP

ADDRESSES = ("198.18.1.7", "198.18.1.200", "198.18.2.1", "198.19.0.1")
HOSTS: Mapping[str, str] = MappingProxyType(
    {"api.example.com": "198.19.9.1", "www.example.com": "198.19.9.2", "example.org": "198.19.9.3"}
)
NETWORKS: Sequence[Mapping[str, object]] = (
    {"cidr": "0.0.0.0/0"},
    {"cidr": "198.18.0.0/15", "except": ["198.18.1.0/25", "198.19.9.2"]},
    {"cidr": ["198.18.1.0/24", "198.18.2.1"], "except": "198.18.1.128/25"},
    {"cidr": ["198.18.1.7", "198.19.0.0/24"]},
    {"cidr": [f"198.18.{each}.0/25" for each in range(1, 30)]},
    {"cidr": "198.18.2.0/24"},
)
NAMES: Sequence[Mapping[str, object]] = (
    {"host": "api.example.com"},
    {"host": ["*.example.com", "example.org"]},
    {"host": ["www.example.com", "*.example.org"]},
)
CALLED_OUTSIDE = (*(("tcp", port) for port in TCP), *(("udp", port) for port in UDP))
PUBLISHED = (*(("tcp", port) for port in (*TCP, TLS)), *(("udp", port) for port in UDP))
MOST_CONNECTIONS = 3  # of a container with a limit


def published_port(name: str, protocol: str, port: int) -> int:
    """Where a container's port is published; containers are called c1, c2 and so on."""
    return 20_000 + len(PUBLISHED) * int(name[1:]) + PUBLISHED.index((protocol, port))


def publications(name: str) -> list[Mapping[str, int | str | bool]]:
    """All of a container's, as the API takes them."""
    return [
        {"port": published_port(name, protocol, port), "protocol": protocol, **({"tls": True} if port == TLS else {"to": port})}
        for protocol, port in PUBLISHED
    ]
