"""Of which containers a turn waits for Envoy's word: those whose callers have other rights than at the turn before."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.envoy.late_rights import LateRights
from dataplane.envoy.ads.ads import EnvoyStatus
from dataplane.envoy.ads.resource import ResourceKey
from dataplane.envoy.translation import Translation, rights_keys
from dataplane.state import Allow, HostState, InboundListener, Leaf, Workload

LEAF = Leaf(b"chain", b"key")
Walk = list[dict[int, int]]


@dataclass
class TakingEnvoy:
    """Has taken all, or nothing, and remembers what it was asked for."""

    has_all: bool = True
    asked: set[ResourceKey] = field(default_factory=set)

    def status(self) -> EnvoyStatus:
        return EnvoyStatus(connected=False, connections=0, refused={}, pushed=0, acknowledged=0)

    def lacks(self, key: ResourceKey, _version: str, *, needed_by: ResourceKey) -> bool:
        self.asked.add(key)
        return not self.has_all


def state(rights: dict[int, int]) -> HostState:
    """A workload for each number, with so many callers."""
    workloads = {}
    for number, callers in rights.items():
        address = IPv4Address("10.255.1.0") + number
        allows = frozenset(Allow(tag, "tcp", 80, 80) for tag in range(1, callers + 1))
        listeners = (InboundListener(LEAF, frozenset(), longest=60),)
        workloads[address] = Workload(f"w{number}", address, number, Path("/pin"), allows=allows, listeners=listeners)
    names = {tag: f"spiffe://{tag}" for tag in range(9)}
    return HostState(IPv4Network("10.255.0.0/16"), IPv4Network("10.255.1.0/24"), 1450, workloads, principals=names)


async def waited_for(late: LateRights, envoy: TakingEnvoy, found: HostState, translation: Translation) -> set[IPv4Address]:
    late.want(found.workloads.values(), translation.of(found))
    envoy.asked.clear()
    await late.settle()
    return {each for each in found.workloads if envoy.asked & set(rights_keys(each))}


rights = st.dictionaries(st.integers(2, 5), st.integers(0, 3), max_size=4)


@given(st.lists(rights, min_size=1, max_size=5))
async def test_only_where_rights_have_changed_envoy_is_waited_for(walk: Walk) -> None:
    envoy, translation = TakingEnvoy(), Translation()
    edge: Any = envoy
    late = LateRights(edge, on_taken=lambda: None)
    before: dict[int, int] = {}
    for now in walk:
        found = state(now)
        changed = {IPv4Address("10.255.1.0") + number for number in now if before.get(number) != now[number]}
        assert await waited_for(late, envoy, found, translation) == changed
        before = now


@given(st.lists(rights, min_size=1, max_size=5))
async def test_what_envoy_has_not_taken_stays_awaited_for_as_long_as_its_container_is_there(walk: Walk) -> None:
    edge: Any = TakingEnvoy(has_all=False)
    late, translation = LateRights(edge, on_taken=lambda: None), Translation()
    for now in walk:
        found = state(now)
        late.want(found.workloads.values(), translation.of(found))
        assert await late.settle() == found.workloads.keys()
        assert len(list(late.problems())) == bool(now)


async def test_a_container_that_follows_another_at_its_address_is_reported_by_its_own_name() -> None:
    edge: Any = TakingEnvoy(has_all=False)
    late, translation = LateRights(edge, on_taken=lambda: None), Translation()
    for name in ("first", "second"):
        found = state({2: 1, 3: len(name) % 2})
        renamed = [replace(each, name=name) if each.tag == 2 else each for each in found.workloads.values()]
        late.want(renamed, translation.of(found))
        await late.settle()
        (problem,) = late.problems()
        assert name in problem.what


async def test_of_rights_that_are_all_as_they_were_none_is_looked_at() -> None:
    edge: Any = TakingEnvoy()
    late, translation = LateRights(edge, on_taken=lambda: None), Translation()
    found = state({2: 1, 3: 2})
    late.want(found.workloads.values(), translation.of(found))
    renewed = replace(found, trust_bundle=b"roots")
    looks = NeverLookedAt()
    late.want(looks, translation.of(renewed))


class NeverLookedAt(list[Workload]):
    def __iter__(self) -> Iterator[Workload]:
        raise AssertionError("the workloads are looked at")
