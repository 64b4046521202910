"""What an instance is known by wherever it runs: its address, its number among its app's, its id."""

from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class Place:
    """`guid` is what its environment calls it."""

    address: IPv4Address
    instance: int
    guid: str
