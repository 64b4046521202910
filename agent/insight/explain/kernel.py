"""Whether the kernel goes by the policies: the rule as it stands in the destination's chain, and in the rest of ours.

Model and kernel may disagree for a moment after a change, and where another program has changed rules.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent.insight.explain.way import AskedWay, WayStep
from agent.loop.known_kernel import Applied
from agent.model.names import AppName
from agent.model.policy import Protocol
from agent.wording import listed
from dataplane.admission import admitted
from dataplane.firewall.backends.driver import FirewallTables
from dataplane.firewall.rights import container_chain, rule_of
from dataplane.state import INBOUND_PORT, Allow, HostState, Workload
from dataplane.tables import ChainKey

OF_A_CONTAINER: Final = re.compile(r"CELLNET-([0-9a-f]{8})(-audit)?(-[0-9a-f])?")
TRIES: Final = 3
PAUSE: Final = 0.05  # seconds, for a turn to end
ASK_LATER: Final = "`cellnet sync` waits until it is so, and says what is missing"
CHANGED_HINT: Final = "the agent puts them back within seconds, and status counts a repair: see which program changes them"


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What is asked: what the last turn made of the kernel (None while one goes on, or there was none), what rules it has, the
    apps' tags, and whether a policy allows a way on this cell."""

    applied: Callable[[], Applied | None]
    read: Callable[[], Awaitable[FirewallTables]]
    tags: Callable[[], Awaitable[Mapping[AppName, int]]]
    allowed: Callable[[AskedWay], Awaitable[bool]]


class KernelSteps:
    """Of the instances on this cell, which judges what comes to them."""

    def __init__(self, facts: KernelFacts, *, cell: str) -> None:
        self._facts = facts
        self._cell = cell

    async def steps(self, way: AskedWay) -> Iterable[WayStep]:
        """A step for each instance of the destination here, and one for rules that another program has changed."""
        here = [each for each in way.called if each.cell == self._cell]
        if not here or not isinstance(way.source, AppName):
            return ()
        found = await self._made_and_found()
        if found is None:
            return (WayStep("kernel", None, "rules change just now", "ask again"),)
        applied, tables = found
        tag = (await self._facts.tags()).get(way.source)
        allowed = await self._facts.allowed(way)
        workloads = [applied.state.workloads.get(each.address) for each in here]
        judged = [each for each in workloads if each is not None]
        steps = [_step(each, way, tag=tag, state=applied.state, found=tables, allowed=allowed) for each in judged]
        if applied.state.mutual_tls.served and way.protocol is Protocol.TCP and way.port != applied.state.tls_port:
            steps += [_in_tunnels(each, way, tag=tag, state=applied.state) for each in judged]
        return (*steps, *_changed(applied, tables, of={container_chain(each.address) for each in workloads if each}))

    async def _made_and_found(self) -> tuple[Applied, FirewallTables] | None:
        """Both of one moment: no turn has changed the kernel while it was read."""
        for _ in range(TRIES):
            before = self._facts.applied()
            if before is not None:
                found = await self._facts.read()
                if self._facts.applied() is before:
                    return before, found
            await asyncio.sleep(PAUSE)
        return None


def _step(
    workload: Workload, way: AskedWay, *, tag: int | None, state: HostState, found: FirewallTables, allowed: bool
) -> WayStep:
    """What the chain of one container says of a caller's tag."""
    name = workload.name
    if tag is None:
        what = f"{way.source} has no tag, so the kernel knows no packet of it"
        return WayStep("kernel", False if allowed else None, what, ASK_LATER if allowed else "")
    rights = [each for each in workload.allows if _fits(each, tag, way.protocol, way.port, state)]
    if not rights:
        what = f"the chain of {name} has no rule for tag {tag} on {way.service}: it is refused"
        return WayStep("kernel", False if allowed else None, what, f"a policy allows it: {ASK_LATER}" if allowed else "")
    rule = next(_standing(workload, way, tag=tag, state=state, found=found), None)
    if rule is None:
        return WayStep("kernel", False, f"the rule that lets {way.source} reach {name} is not in the kernel", CHANGED_HINT)
    if not allowed:
        return WayStep("kernel", None, f"no policy allows it any more, and the kernel still does: {rule}", ASK_LATER)
    return WayStep("kernel", True, f"lets it into {name}: {rule}")


def _in_tunnels(workload: Workload, way: AskedWay, *, tag: int | None, state: HostState) -> WayStep:
    """What Envoy goes by once it has taken it: the same rights, of the port that a call in a tunnel is for."""
    may = tag is not None and any(_fits(each, tag, way.protocol, way.port, state) for each in workload.allows)
    what = f"of calls in tunnels it lets {way.source} reach {workload.name} on {way.service}"
    return WayStep("Envoy", True, what) if may else WayStep("Envoy", None, what.replace("it lets", "it does not let"))


def _standing(workload: Workload, way: AskedWay, *, tag: int, state: HostState, found: FirewallTables) -> Iterator[str]:
    """The rules that let it in, of those that the kernel has now."""
    chain = container_chain(workload.address)
    held = {
        text: key.chain
        for key, rules in found.chains.items()
        if key.chain.split("-", 2)[:2] == chain.split("-", 2)
        for text in rules
    }
    tls = state.tls_port
    for each in sorted(admitted(workload.allows, state.mutual_tls, tls_port=tls)):
        ports = {way.port, INBOUND_PORT} if way.protocol is Protocol.TCP and way.port != tls else {way.port}
        # into tunnels an audit lets all calls of a caller, and Envoy tells which of them pass by it alone
        texts = {rule_of(each), rule_of(replace(each, audit=False))} & held.keys()
        if texts and any(_fits(each, tag, way.protocol, port, state) for port in ports):
            text = min(texts)
            yield f"{held[text]} {text}"


def _fits(each: Allow, tag: int, protocol: Protocol, port: int, state: HostState) -> bool:
    is_port = protocol is Protocol.ICMP or each.first <= port <= each.last
    return each.protocol == protocol.value and is_port and tag in state.tags_of(each)


def _changed(applied: Applied, found: FirewallTables, *, of: set[str]) -> Iterator[WayStep]:
    """Chains and jumps that are not as they were made, but for those of other containers."""
    made = applied.tables
    chains = [
        str(key)
        for key, rules in made.chains.items()
        if found.chains.get(key) != rules and not _is_anothers(key, of=of)
    ]  # fmt: skip
    jumps = [f"the jump from {key}" for key, place in made.jumps.items() if found.jumps.get(key) != place]
    if chains or jumps:
        what = f"rules of cellnet are not as it has made them: {listed([*jumps, *chains])}"
        yield WayStep("kernel", False, what, CHANGED_HINT)


def _is_anothers(key: ChainKey, *, of: set[str]) -> bool:
    found = OF_A_CONTAINER.fullmatch(key.chain)
    return found is not None and f"CELLNET-{found[1]}" not in of
