"""What has to change, as a value: the difference between the tables that should be and those that are.

Pure. The order in which a plan takes effect is in `dataplane/apply.py` alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Generic, TypeAlias, TypeVar

from dataplane.tables import TUNNEL_LINK, ChainKey, Interior, KernelRoute, NeighbourKey, Tables, Veth, Vtep, without

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Delta(Generic[K, V]):
    """One table's changes: `add` and `change` hold the wanted values, `old` those that `change` replaces,
    `drop` what is there and should not be."""

    add: Mapping[K, V]
    change: Mapping[K, V]
    old: Mapping[K, V]
    drop: Mapping[K, V]

    def __bool__(self) -> bool:
        return bool(self.add or self.change or self.drop)

    @property
    def put(self) -> Mapping[K, V]:
        """Everything to be written, new or different."""
        return {**self.add, **self.change}

    def of(self, actual: Mapping[K, V]) -> Mapping[K, V]:
        """What becomes of a table by these changes."""
        return {**{key: value for key, value in actual.items() if key not in self.drop}, **self.put}

    def lines(self) -> Iterator[str]:
        """`+ key value`, `~ key value`, `- key`, sorted, for logs and people."""
        yield from (f"+ {key} {value}" for key, value in sorted(self.add.items(), key=lambda item: str(item[0])))
        yield from (f"~ {key} {value}" for key, value in sorted(self.change.items(), key=lambda item: str(item[0])))
        yield from (f"- {key}" for key in sorted(self.drop, key=str))


def diff(desired: Mapping[K, V], actual: Mapping[K, V]) -> Delta[K, V]:
    """What turns `actual` into `desired`."""
    if desired is actual:
        return Delta({}, {}, {}, {})
    missing = object()
    add: dict[K, V] = {}
    change: dict[K, V] = {}
    for key, wanted in desired.items():
        found = actual.get(key, missing)
        if found is missing:
            add[key] = wanted
        elif found is not wanted and found != wanted:
            change[key] = wanted
    is_all_wanted = len(desired) - len(add) == len(actual)  # as at most turns: then none need be looked for
    drop = {} if is_all_wanted else {key: value for key, value in actual.items() if key not in desired}
    return Delta(add, change, {key: actual[key] for key in change}, drop)


ChainDelta: TypeAlias = Delta[ChainKey, tuple[str, ...]]
JumpDelta: TypeAlias = Delta[ChainKey, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes of every table, by the fields of `Tables`. Nothing to do is falsy."""

    sysctls: Delta[str, str]
    tags: Delta[IPv4Address, int]
    chains: ChainDelta
    jumps: JumpDelta
    veths: Delta[str, Veth]
    links_up: Delta[str, bool]
    interiors: Delta[IPv4Address, Interior]
    neighbours: Delta[NeighbourKey, str]
    routes: Delta[IPv4Network, KernelRoute]
    vteps: Delta[str, Vtep]
    addresses: Delta[IPv4Address, str]
    fdb: Delta[str, tuple[IPv4Address, ...]]
    senders: Delta[IPv4Address, int]
    outside: Delta[str, tuple[IPv4Network, ...]]
    limited: Delta[str, tuple[IPv4Network, ...]]
    rates: Delta[IPv4Address, int]
    names: Delta[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))

    def __str__(self) -> str:
        return "\n".join(f"{each.name} {line}" for each in fields(self) for line in getattr(self, each.name).lines())

    def summary(self) -> str:
        """`chains 2, routes 1`: how many entries of which tables change."""
        changes = {each.name: sum(1 for _ in getattr(self, each.name).lines()) for each in fields(self)}
        return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in changes.items() if count)

    def count(self) -> int:
        """How many entries change."""
        return sum(1 for each in fields(self) for _ in getattr(self, each.name).lines())


def plan(desired: Tables, actual: Tables) -> Plan:
    """What turns one set of tables into the other."""
    actual = _lost_with_the_tunnel(desired, actual)
    return Plan(**{each.name: diff(getattr(desired, each.name), getattr(actual, each.name)) for each in fields(Plan)})


def _lost_with_the_tunnel(desired: Tables, actual: Tables) -> Tables:
    """What there is, less what the kernel removes when this cell's end of the overlay is made anew or gets another MAC."""
    wanted, found = desired.vteps.get(TUNNEL_LINK), actual.vteps.get(TUNNEL_LINK)
    if wanted is None or found is None or wanted == found:
        return actual
    if not wanted.is_same_device(found):
        return replace(without(actual, (), overlay=True), vteps=actual.vteps)
    if wanted.mac != found.mac:
        kept = {key: mac for key, mac in actual.neighbours.items() if key.device != TUNNEL_LINK}
        return replace(actual, neighbours=kept)
    return actual
