"""The world outside as policies name it: networks with exceptions, and names of hosts. No file, no store, no kernel."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from agent.config.config import Config

Span: TypeAlias = tuple[int, int]
"""The first and the last address of a stretch, as numbers."""

LINK = IPv4Network("169.254.0.0/16")
NEVER: Mapping[IPv4Network, str] = {
    IPv4Network("0.0.0.0/8"): "no host has an address there",
    IPv4Network("127.0.0.0/8"): "it is each host's own loopback",
    LINK: "it is the link between a container and its cell",
    IPv4Network("224.0.0.0/3"): "it is multicast, or reserved",
}
"""What is never outside, and why not."""
LARGEST = 1 << 31  # addresses of one network in the normal form: the kernel's sets take no /0


@dataclass(frozen=True, slots=True)
class Cidrs:
    """Networks without the parts of them that are excepted, both as they are written."""

    networks: tuple[IPv4Network, ...]
    excepted: tuple[IPv4Network, ...] = ()

    def normal(self) -> tuple[IPv4Network, ...]:
        """The same addresses in as few networks as possible, ascending and apart; never a /0, which is two /1 here."""
        return tuple(_networks(without(spans(self.networks), spans(self.excepted))))

    def __contains__(self, address: object) -> bool:
        return (
            isinstance(address, IPv4Address)
            and any(address in each for each in self.networks)
            and not any(address in each for each in self.excepted)
        )

    def __str__(self) -> str:
        """`192.0.2.0/24 198.51.100.0/24 except 192.0.2.99/32`."""
        exceptions = f" except {' '.join(map(str, self.excepted))}" if self.excepted else ""
        return " ".join(map(str, self.networks)) + exceptions


@dataclass(frozen=True, slots=True, order=True)
class HostPattern:
    """One name, in lower case and without a dot at its end, or with `below` all names below it, at any depth."""

    name: str
    below: bool = False

    def matches(self, name: str) -> bool:
        """Whether a name, in lower case and without a dot at its end, is meant."""
        return name.endswith(f".{self.name}") if self.below else name == self.name

    def __str__(self) -> str:
        return f"*.{self.name}" if self.below else self.name


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names of hosts, as they are written."""

    names: tuple[HostPattern, ...]

    def matches(self, name: str) -> bool:
        """Whether a name, in lower case and without a dot at its end, is one of them."""
        return any(each.matches(name) for each in self.names)

    def __str__(self) -> str:
        return " ".join(map(str, self.names))


@dataclass(frozen=True, slots=True)
class Inside:
    """What is this cell's own, beside what is NEVER outside: the overlay, and the domains of the names that it gives."""

    overlay: IPv4Network | None = None
    zones: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: "Config") -> Self:
        """That of one cell."""
        return cls(config.overlay.network, config.dns.zones)

    def why(self, network: IPv4Network) -> str:
        """Why nothing of a network is outside, empty where something may be."""
        if self.overlay is not None and network.subnet_of(self.overlay):
            return "it is the containers' own network"
        return next((why for never, why in NEVER.items() if network.subnet_of(never)), "")

    def has(self, host: HostPattern) -> bool:
        """Whether a name, or all that are below one, are of the cell's own domains."""
        return any(host.name == zone or host.name.endswith(f".{zone}") for zone in self.zones)


NOTHING_INSIDE = Inside()
"""Where no configuration is known."""


def united(groups: Iterable[Iterable[IPv4Network]]) -> tuple[IPv4Network, ...]:
    """All that is in one of the groups, in the normal form of `Cidrs`."""
    return tuple(_networks(spans(network for group in groups for network in group)))


def spans(networks: Iterable[IPv4Network]) -> tuple[Span, ...]:
    """The stretches that networks are, ascending, none touching another."""
    found: list[Span] = []
    for first, last in sorted(map(_span, networks)):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _span(network: IPv4Network) -> Span:
    first = int(network.network_address)
    return first, first + (1 << (32 - network.prefixlen)) - 1


def without(given: Iterable[Span], taken: tuple[Span, ...]) -> Iterator[Span]:
    """What is left of the given stretches. Both are ascending and apart."""
    place = 0
    for first, last in given:
        while place < len(taken) and taken[place][1] < first:
            place += 1
        at = place
        while at < len(taken) and taken[at][0] <= last:
            if first < taken[at][0]:
                yield first, taken[at][0] - 1
            first = taken[at][1] + 1
            at += 1
        if first <= last:
            yield first, last


def _networks(given: Iterable[Span]) -> Iterator[IPv4Network]:
    for first, last in given:
        while first <= last:
            aligned = first & -first or LARGEST
            size = min(aligned, 1 << (last - first + 1).bit_length() - 1, LARGEST)
            yield _network(first, 33 - size.bit_length())
            first += size


@lru_cache(1 << 16)
def _network(first: int, prefix: int) -> IPv4Network:
    """Kept: to make one takes longer than all the rest, and a change leaves most of thousands as they are."""
    return IPv4Network((first, prefix))
