"""The world outside as policies name it: networks with exceptions, and names of hosts. No file, no store, no kernel."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""The first and the last address of a stretch, as numbers."""

LAST = (1 << 32) - 1
LARGEST = 1 << 31  # addresses of one network in the normal form: the kernel's sets take no /0


@dataclass(frozen=True, slots=True)
class Cidrs:
    """Networks without the parts of them that are excepted, both as they are written."""

    networks: tuple[IPv4Network, ...]
    excepted: tuple[IPv4Network, ...] = ()

    def normal(self) -> tuple[IPv4Network, ...]:
        """The same addresses in as few networks as possible, ascending and apart; never a /0, which is two /1 here."""
        return tuple(_networks(_without(spans(self.networks), spans(self.excepted))))

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


def _without(given: Iterable[Span], taken: tuple[Span, ...]) -> Iterator[Span]:
    """What is left of the given stretches; both ascending and apart."""
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
