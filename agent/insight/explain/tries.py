"""`explain --try`: a real call from inside the source. A change of the world, for root alone: limited, logged, and marked.

What is refused of it is told as any other refusal, with a word that it was a try: by the source's port, which no other call of
that container has meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from agent import log
from agent.errors import Conflict, HostRefused, InvalidInput
from agent.insight.explain.explanation import Explained
from agent.insight.explain.way import AskedWay, WayStep
from agent.insight.refusals.tried_calls import TriedCalls, TriedWay
from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.model.outside import HostPattern
from dataplane import trial_call
from dataplane.trial_call import CallEnd, CallResult, TrialCall

MOST: Final = 30  # in MINUTE
MINUTE: Final = 60.0
DESTINATIONS: Final = 4  # that are called at once
HELD, HELD_IN_TUNNELS = 0.2, 1.0  # seconds: through a tunnel a call is taken before it is known what becomes of it
WORDS: Final = {
    CallEnd.ANSWERED: (True, "answers", ""),
    CallEnd.REFUSED: (False, "refuses the call", ""),
    CallEnd.CLOSED: (
        False,
        "takes the call and closes it before any byte",
        "Envoy does so where it refuses it, or nothing serves the port",
    ),
    CallEnd.SILENT: (False, f"does not answer within {trial_call.PATIENCE:g} seconds", "see the way between the cells"),
    CallEnd.SENT: (None, "was sent an empty datagram, and nothing refused it", "whether the app takes it is not known"),
}


@dataclass(frozen=True, slots=True)
class TryPlace:
    """This cell: the folder of its namespaces, where its resolver answers, and whether its containers call through tunnels."""

    cell: str
    pins: Path
    resolver: IPv4Address
    in_tunnels: Callable[[], bool]


class Tries:
    """One per agent. `known` has the addresses of a name; `elapsed` is a clock that never jumps; `calls` keeps their ports."""

    def __init__(
        self,
        place: TryPlace,
        *,
        known: Callable[[HostPattern], Collection[IPv4Address]],
        elapsed: Callable[[], float],
        calls: TriedCalls,
    ) -> None:
        self._place = place
        self._known = known
        self._elapsed = elapsed
        self._calls = calls
        self._log = log.get("explain")
        self._recent: deque[float] = deque()
        self._one = asyncio.Lock()

    async def make(self, way: AskedWay) -> list[WayStep]:
        """Call each instance of the destination, four at the most, from one of the source. Raises InvalidInput, Conflict."""
        caller = self._caller(way)
        self._count()
        async with self._one:
            targets = await self._targets(way, caller)
            steps = [await self._call(caller, name, address, way) for name, address in targets]
        said = "; ".join(each.what for each in steps)
        self._log.info("tried", source=str(way.source), to=str(way.to), service=way.service, found=said)
        return steps

    def _caller(self, way: AskedWay) -> Endpoint:
        if not isinstance(way.source, AppName):
            raise InvalidInput(f"{way.source} is no app: nothing can be tried from outside", hint="call it from there")
        here = [each for each in way.callers if each.cell == self._place.cell]
        if not here:
            where = ", ".join(sorted({each.cell for each in way.callers}))
            hint = f"it runs on {where}: try it there" if where else "attach it first"
            raise Conflict(f"no instance of {way.source} runs on this cell", hint=hint)
        return here[0]

    def _count(self) -> None:
        now = self._elapsed()
        while self._recent and self._recent[0] <= now - MINUTE:
            self._recent.popleft()
        if len(self._recent) >= MOST:
            raise Conflict(f"{MOST} calls were tried within a minute", hint="wait a moment")
        self._recent.append(now)

    async def _targets(self, way: AskedWay, caller: Endpoint) -> list[tuple[str, IPv4Address]]:
        match way.to:
            case AppName():
                found = [(f"{each.name} ({each.address})", each.address) for each in way.called]
            case IPv4Address():
                found = [(str(way.to), way.to)]
            case HostPattern():
                addresses = sorted(self._known(way.to)) or await self._looked_up(way.to, caller)
                found = [(f"{way.to} ({each})", each) for each in addresses]
        return found[:DESTINATIONS]

    async def _looked_up(self, host: HostPattern, caller: Endpoint) -> tuple[IPv4Address, ...]:
        place = self._place
        return await asyncio.to_thread(trial_call.look_up, str(host), pin=place.pins / caller.name, resolver=place.resolver)

    async def _call(self, caller: Endpoint, name: str, address: IPv4Address, way: AskedWay) -> WayStep:
        held = HELD_IN_TUNNELS if way.is_between_apps and self._place.in_tunnels() else HELD
        pin = self._place.pins / caller.name
        call = TrialCall(pin, caller.address, address, way.protocol.value, way.port, held)
        try:
            tried = TriedWay(caller.address, address, way.port)
            result = await asyncio.to_thread(trial_call.make, call, begun=partial(self._calls.add, tried))
        except HostRefused as error:
            return WayStep("try", None, error.what, error.hint)
        return _step(caller.name, name, result)


def _step(caller: str, name: str, result: CallResult) -> WayStep:
    ok, words, hint = WORDS[result.end]
    why = f" ({result.words})" if result.words else ""
    return WayStep("try", ok, f"called from {caller}, {name} {words}{why} after {result.milliseconds:.1f} ms", hint)


def verdict(steps: Sequence[WayStep], found: Explained) -> Iterator[WayStep]:
    """What follows where calls came otherwise than what was found, or nothing could be called."""
    works, way = all(each.ok is not False for each in steps), found.way
    if not steps:
        yield WayStep("try", False, "there is nothing to call", "no instance runs, or the name has no address")
    elif not works and found.works and any((each.name, each.ok) == ("listener", None) for each in found.steps):
        hint = f"its own cell sees that: run there cellnet explain {way.source} {way.to} {way.service}"
        yield WayStep("try", None, f"it may be that nothing serves {way.service} there", hint)
    elif works != found.works:
        what = "this is otherwise than all that is known says"
        yield WayStep("try", None, what, "another program's rules, or the app's own, may decide: see docs/operate.md")
