"""Which policies flows have used, by the look at all flows that is taken each minute anyway; kept over the agent's restarts.

A flow uses each policy that allows it, not only one. The kernel keeps a TCP connection for two minutes after its end, so a look
a minute sees those too; what comes and goes between two looks (a lone datagram, a connection that is reset) it does not see.
"""

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from agent import log
from agent.complaint import Complaints
from agent.errors import HostRefused, InvalidInput
from agent.insight.flows.looks import FlowLooks
from agent.insight.names_outside import NamesOf, meanings
from agent.model.names import AppName
from agent.model.policy import EgressPolicy, Policy, Protocol
from agent.policy.difference import difference
from agent.policy.parties import Party, party_of
from host.durable import PUBLIC, Write, make_folder, replace

SAVED: Final = 600.0  # seconds between two writes
NEW: Final = 2_000  # calls that are asked about in one look: a container may make 65,000
KEPT: Final = 16_384  # answers
STRETCH: Final = 200  # calls or policies after which other tasks have their turn
WORDS: Final = {each.value: each for each in Protocol}

Allowing = Callable[[Party, Party, Protocol, int], Awaitable[Iterable[Policy]]]


class Watched(NamedTuple):
    """Since when a policy is looked for, and when it was used last, 0 for never; seconds since 1970."""

    since: int
    used: int


@dataclass(frozen=True, slots=True)
class UnusedPolicy:
    """One that no flow has used since `watched`, or since it was `used` last (UTC)."""

    policy: Policy
    watched: datetime
    used: datetime | None


@dataclass(frozen=True, slots=True)
class Unused:
    """`elsewhere` are policies for which no container of this cell stands: other cells know of them. `seen` is when flows were
    looked at last (UTC)."""

    seen: datetime
    policies: tuple[UnusedPolicy, ...]
    elsewhere: int


class PolicyUse:
    """One per agent. `in_force` is the same object while policies are the same, `now` is in seconds since 1970, `elapsed` never
    jumps; `names_of` are those that an address outside stands for."""

    def __init__(
        self,
        path: Path,
        looks: FlowLooks,
        *,
        in_force: Callable[[], Awaitable[tuple[Policy, ...]]],
        allowing: Allowing,
        names_of: NamesOf,
        now: Callable[[], float],
        elapsed: Callable[[], float],
    ) -> None:
        self._path = path
        self._looks = looks
        self._in_force = in_force
        self._allowing = allowing
        self._names_of = names_of
        self._now = now
        self._elapsed = elapsed
        self._policies: tuple[Policy, ...] | None = None
        self._known: dict[str, Watched] = {}
        self._answers: dict[tuple[str, str, str, int], frozenset[str]] = {}  # which policies allow a call between apps
        self._saved = elapsed()
        self._turn = asyncio.Lock()
        self._complaints = Complaints(log.get("insight"), failed="policy_use_not_kept", recovered="policy_use_kept")

    async def look(self) -> None:
        """Take in what flows now. Raises HostRefused."""
        async with self._turn:
            await self._follow()
            await self._take(await self._calls())
            if self._elapsed() - self._saved >= SAVED:
                self._saved = self._elapsed()
                await asyncio.to_thread(self.save)

    async def unused(self, apps: Collection[AppName], *, within: float | None) -> Unused:
        """Of the policies that concern `apps` those that were not used for so many seconds, or never."""
        await self.look()
        now, found, elsewhere = int(self._now()), list[UnusedPolicy](), 0
        for number, each in enumerate(self._policies or (), start=1):
            watched = self._known.get(_key(each), Watched(now, 0))
            if not concerns(each, apps):
                elsewhere += 1
            elif not watched.used or (within is not None and watched.used < now - within):
                used = _moment(watched.used) if watched.used else None
                found.append(UnusedPolicy(each, _moment(watched.since), used))
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        return Unused(_moment(now), tuple(found), elsewhere)

    def save(self) -> None:
        """For the next agent. What keeps it from that is in the log."""
        if self._policies is None:
            return
        try:
            make_folder(self._path.parent, mode=0o700)
            content = json.dumps(dict(self._known), separators=(",", ":")).encode()
            replace(Write(self._path, content, PUBLIC), lasting=False)
        except OSError as error:
            self._complaints.about(HostRefused(f"cannot write {self._path}: {error.strerror}", hint="make room"))
        else:
            self._complaints.over()

    async def _follow(self) -> None:
        """Take the policies that there are now."""
        policies = await self._in_force()
        if policies is self._policies:
            return
        before = self._policies
        if before is None:
            kept = await asyncio.to_thread(self._load)
            change, self._known = difference((), policies), {}
        else:
            kept, change = {}, difference(before, policies)
        now = int(self._now())
        gone = {key: self._known.pop(key) for key in map(_key, change.removed) if key in self._known}
        for number, each in enumerate(change.added, start=1):
            key = _key(each)
            self._known[key] = gone.get(key) or kept.get(key) or Watched(now, 0)
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        self._policies = policies
        self._answers.clear()

    async def _calls(self) -> set[tuple[str, str, str, int]]:
        look = await self._looks.look()
        return {(each.source, each.to, each.protocol, each.port) for each in look.flows}

    async def _take(self, calls: set[tuple[str, str, str, int]]) -> None:
        now = int(self._now())
        new = [each for each in calls if each not in self._answers and each[2] in WORDS]
        if len(new) > NEW:
            new = await asyncio.to_thread(_fairly, new)
        for number, call in enumerate(new[:NEW], start=1):
            source, to, protocol, port = call
            found = await self._used(party_of(source), party_of(to), WORDS[protocol], port)
            self._answers[call] = frozenset(map(_key, found))
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        for key in frozenset().union(*(self._answers[call] for call in calls if call in self._answers)):
            if key in self._known:
                self._known[key] = Watched(self._known[key].since, now)
        if len(self._answers) >= KEPT:
            self._answers.clear()
        # names may come to stand for other addresses
        self._answers = {call: keys for call, keys in self._answers.items() if "/" in call[0] and "/" in call[1]}

    async def _used(self, source: Party, to: Party, protocol: Protocol, port: int) -> list[Policy]:
        found = list[Policy]()
        for end in meanings(to, self._names_of):
            with contextlib.suppress(InvalidInput):  # no end is an app: no policy could speak of it
                found += await self._allowing(source, end, protocol, port)
        return found

    def _load(self) -> dict[str, Watched]:
        """What the last agent has kept; nothing where that makes no sense. No moment of it lies ahead, or before 1970."""
        now = int(self._now())
        try:
            found = json.loads(self._path.read_bytes())
            return {
                key: Watched(*(max(0, min(int(each), now)) for each in (since, used))) for key, (since, used) in found.items()
            }
        except (OSError, ValueError, OverflowError, TypeError, AttributeError, RecursionError):
            return {}


def concerns(policy: Policy, apps: Collection[AppName]) -> bool:
    """Whether this cell judges what the policy allows: at the destination, to the outside at the source."""
    ends = policy.sources if isinstance(policy, EgressPolicy) else (policy.to,)
    return any(end.matches(app) for end in ends for app in apps)


def _fairly(calls: list[tuple[str, str, str, int]]) -> list[tuple[str, str, str, int]]:
    """The first of each two ends, then the second of each, and so on: those that call without end come last."""
    seen = Counter[tuple[str, str, str]]()
    ranked = list[tuple[int, tuple[str, str, str, int]]]()
    for each in calls:
        seen[each[:3]] += 1
        ranked.append((seen[each[:3]], each))
    ranked.sort(key=lambda each: each[0])
    return [each for _, each in ranked]


def _key(policy: Policy) -> str:
    """Short, as there may be 60,000: of the name, and of the file or the store."""
    return hashlib.blake2b(f"{policy.origin.source}\0{policy.name}".encode(), digest_size=8).hexdigest()


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
