"""Who may reach what through tunnels, as far as Envoy goes by something older: a revoke is only done when Envoy has taken it.

Envoy judges new streams, so what it has not acknowledged is still as it was before. A turn waits for its word, but not long: an
Envoy that hangs or is away must keep no other change waiting. Then its streams are cut all the same, again and again until it
has the rights, and once more at that moment.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from operator import is_
from typing import Final

from agent.model.status import Part, Problem
from agent.wording import listed, natural
from dataplane.envoy.ads.ads import AdsServer
from dataplane.envoy.ads.resource import EXTENSION, Resource, ResourceKey
from dataplane.envoy.ads.table import NOTHING, ByName, ResourceTable
from dataplane.envoy.translation import listener_key, rights_keys
from dataplane.state import InboundListener, Workload

PATIENCE = 0.5  # seconds that a turn waits; Envoy's word takes two milliseconds
NOWHERE: Final[frozenset[IPv4Address]] = frozenset()


@dataclass(frozen=True, slots=True)
class WantedRights:
    """Those of the callers of one container: what Envoy should have of them."""

    name: str
    keys: tuple[ResourceKey, ...]
    resources: tuple[Resource | None, ...]

    @property
    def versions(self) -> Mapping[ResourceKey, str]:
        """Of each."""
        return {key: each.version for key, each in zip(self.keys, self.resources, strict=True) if each is not None}

    def stands(self, name: str, rights: ByName) -> bool:
        """Whether nothing has changed; seen by identity, as all containers are asked about when one has changed."""
        found = (rights.get(key.name) for key in self.keys)
        return self.name == name and all(map(is_, found, self.resources))


class LateRights(Part):
    """One per loop. `on_taken` hears when Envoy has taken some that it was late with."""

    def __init__(self, ads: AdsServer, *, on_taken: Callable[[], None], patience: float = PATIENCE) -> None:
        self._ads = ads
        self._on_taken = on_taken
        self._patience = patience
        self._rights = NOTHING
        self._wanted: dict[IPv4Address, WantedRights] = {}
        self._pending: dict[IPv4Address, WantedRights] = {}  # not known to be taken
        self._late = NOWHERE  # of these, what a turn has waited for in vain
        self._some_late = asyncio.Event()

    def problems(self) -> Iterator[Problem]:
        """The containers where Envoy still goes by older rights."""
        names = sorted((self._wanted[each].name for each in self._late & self._wanted.keys()), key=natural)
        if names:
            what = f"Envoy has not taken yet what may reach {listed(names)} through tunnels, and goes by what it had before"
            yield Problem("envoy", what, "what is not allowed any more is cut all the same, again and again; see Envoy's log")

    def is_late(self, address: IPv4Address) -> bool:
        """Whether Envoy still goes by older ones for this container."""
        return address in self._late

    def want(self, workloads: Collection[Workload], table: ResourceTable) -> None:
        """What is published now; cheap where all rights are as they were."""
        rights = table.named(EXTENSION)
        if rights is self._rights:
            return
        before, pending = self._wanted, self._pending
        self._rights, self._wanted, self._pending = rights, {}, {}
        for each in workloads:
            known = before.get(each.address)
            wanted = known if known is not None and known.stands(each.name, rights) else _wanted(each, rights)
            self._wanted[each.address] = wanted
            if wanted is not known or each.address in pending:
                self._pending[each.address] = wanted

    async def settle(self) -> frozenset[IPv4Address]:
        """Return when Envoy goes by what is wanted, or after a while; the containers where it does not."""
        if not self._pending:
            return NOWHERE
        is_slow = self._late & self._lacking() - self._refused()
        if not is_slow and self._ads.status().connected:  # one that is slow is waited for once
            await self._ads.until(lambda: not self._lacking() - self._refused(), timeout=self._patience)
        self._late = self._lacking()
        self._pending = {address: self._pending[address] for address in self._late}
        if self._late:
            self._some_late.set()
        return self._late

    async def run(self) -> None:
        """Have a turn follow on what Envoy takes late. Ends only by cancellation."""
        while True:
            await self._some_late.wait()
            await self._ads.until(lambda: bool(self._late - self._lacking()))
            self._some_late.clear()  # that turn sets it again
            self._on_taken()

    def _lacking(self) -> frozenset[IPv4Address]:
        return frozenset(address for address, each in self._pending.items() if self._lacks(address, each))

    def _lacks(self, address: IPv4Address, wanted: WantedRights) -> bool:
        listener = listener_key(address, InboundListener)
        return any(self._ads.lacks(key, version, needed_by=listener) for key, version in wanted.versions.items())

    def _refused(self) -> frozenset[IPv4Address]:
        """Envoy's last word, which is reported as such: there is nothing to wait for."""
        refused = self._ads.status().refused.keys()
        return frozenset(address for address, each in self._pending.items() if refused & each.versions.keys())


def _wanted(workload: Workload, rights: ByName) -> WantedRights:
    """None in it of a container that no tunnels lead to."""
    keys = rights_keys(workload.address)
    return WantedRights(workload.name, keys, tuple(rights.get(key.name) for key in keys))
