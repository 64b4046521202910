"""What a way out or in depends on besides policies: addresses of names, ports that are published, limits of a container.

Each cell knows it of its own containers; of an end that runs nowhere the one that is asked says what it would be there.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from agent.insight.explain.way import PUBLISHED, AskedWay, WayStep
from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.model.outside import HostPattern, Inside
from agent.model.policy import Protocol
from agent.wording import listed


@dataclass(frozen=True, slots=True)
class OutsideFacts:
    """What is asked: what is the cells' own, the addresses that a name stands for here, whether a port of an app is published
    here, and in words what containers have been refused since they are attached, as it was more than their limits allow (by
    name); the addresses of the host itself."""

    cell: str
    inside: Inside
    addresses: Callable[[HostPattern], Collection[IPv4Address]]
    leads_to: Callable[[AppName, str, int], bool]
    limited: Callable[[], Mapping[str, str]]
    own: Callable[[], Awaitable[Collection[IPv4Address]]]


class OutsideSteps:
    """Of ways that leave the overlay, or come into it."""

    def __init__(self, facts: OutsideFacts) -> None:
        self._facts = facts

    async def steps(self, way: AskedWay) -> Iterable[WayStep]:
        """What matters of it."""
        if way.is_between_apps:
            return ()
        return (*self._name(way), *await self._published(way), *self._limits(way))

    def _name(self, way: AskedWay) -> Iterator[WayStep]:
        """An address is open once the resolver has given it to a container."""
        if not isinstance(way.to, HostPattern) or self._facts.inside.has(way.to) or not self._is_here(way.callers):
            return
        found = sorted(self._facts.addresses(way.to))
        if found:
            yield WayStep(
                "address", True, f"{way.to} is {listed(list(map(str, found)))}, as the resolver of this cell answered"
            )
            return
        what = f"the resolver of this cell knows no address of {way.to}: no container has asked it lately"
        hint = "an app opens the way by asking for the name, at the resolver of its resolv.conf and no other"
        yield WayStep("address", None, what, hint)

    async def _published(self, way: AskedWay) -> tuple[WayStep, ...]:
        if isinstance(way.source, AppName) or not isinstance(way.to, AppName) or way.protocol is Protocol.ICMP:
            return ()
        if not self._is_here(way.called):
            return ()
        if self._facts.leads_to(way.to, way.protocol.value, way.port):
            return (WayStep(PUBLISHED, True, f"a port of this host leads to {way.service} of {way.to}"),)
        if way.source in await self._facts.own():
            return ()  # it reaches its containers by their addresses, too
        what = f"no port of this host leads to {way.service} of {way.to}: it is not published"
        hint = f"attach it with --publish {way.port}:{way.port}; `cellnet ps` shows what leads where"
        return (WayStep(PUBLISHED, False, what, hint),)

    def _is_here(self, ends: tuple[Endpoint, ...]) -> bool:
        return not ends or any(each.cell == self._facts.cell for each in ends)

    def _limits(self, way: AskedWay) -> Iterator[WayStep]:
        limited = self._facts.limited()
        for each in way.callers:
            if each.cell == self._facts.cell and each.name in limited:
                what = f"{each.name} has come to its limits: {limited[each.name]}"
                yield WayStep("limits", None, what, "it is refused what is more; `cellnet run --limit-…` sets them")
