"""What was denied: to whom, by whom, why; counted by pair, and the last of it kept one by one. So is what an audit let pass,
which would be denied without.

All of it is bounded, and each source has a share. What comes beyond a bound is counted where it cannot be kept, so that nothing
is missing unnoticed.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from agent.insight.refusals.app_pairs import AppPairs
from agent.insight.refusals.fair_shares import FairShares
from agent.insight.refusals.tried_calls import TRIED
from agent.metrics import Metrics
from agent.model.status import Part

KEPT: Final = 1_000  # one by one
PAIRS: Final = 4_096
WOULD: Final = "passed, and would be refused"  # what an audit let pass
SHOWN: Final = 3  # pairs in a row of status
MINUTE: Final = 60
PAIRS_A_SECOND: Final = 200  # whose count is kept for the last minute's; all are counted


class Reason(StrEnum):
    """Why something was denied, in the word that users see."""

    POLICY = "policy"  # no policy allows it
    NOBODY = "nobody"  # no container has the address
    STRICT = "strict"  # a policy allows it, but it came in plain text where only tunnels pass
    EGRESS = "egress"  # no policy lets it out
    INGRESS = "ingress"  # no policy lets it in from outside
    HOST = "host"  # a port of the host that is no service of it
    LIMIT = "limit"  # more than one container may have or begin
    RESOLVER = "resolver"  # more questions than one container may ask
    SPOOFED = "spoofed"  # an address that is not its sender's
    INVALID = "invalid"  # of no connection that is known
    TUNNEL = "tunnel"  # Envoy has refused it for another reason than policies
    AUDIT = "audit"  # it was let through, by a policy in audit alone: else none would allow it


class Pair(NamedTuple):
    """Ends are apps, or addresses that are no app's. `port` is the destination's, 0 where there is none."""

    source: str
    to: str
    protocol: str
    port: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Denial:
    """One of them. `number` counts all that were kept since the agent's start; `at` is UTC."""

    number: int
    at: datetime
    pair: Pair
    source_address: str
    to_address: str
    words: str = ""

    def view(self, *, cell: str) -> Mapping[str, object]:
        """As the API has it, without the moment."""
        place = {"from_address": self.source_address, "to_address": self.to_address, "words": self.words, "cell": cell}
        return {"number": self.number, **ends_of(self.pair), **place}


@dataclass(slots=True)
class Tally:
    """How often a pair was denied, and when first and last. `names` are those that its destination outside stood for then."""

    count: int
    first: datetime
    last: datetime
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class _Second:
    """What was denied within one."""

    at: int
    denied: int = 0
    audited: int = 0
    pairs: FairShares[Pair, int] = field(default_factory=lambda: FairShares(PAIRS_A_SECOND, keeps_first=True))


@dataclass(frozen=True, slots=True)
class DeniedRow:
    """Of the last minute; `pairs` are those that were denied most, `audits` those that passed most by an audit alone. `lost`
    were not heard of, since the agent's start.
    """

    last_minute: int
    pairs: tuple[str, ...]
    lost: int
    audited: int = 0
    audits: tuple[str, ...] = ()


class Denied(Part):
    """One per agent. `now` is UTC, `elapsed` in seconds and never jumps."""

    def __init__(self, *, metrics: Metrics, now: Callable[[], datetime], elapsed: Callable[[], float]) -> None:
        self._metrics = metrics
        self._now = now
        self._elapsed = elapsed
        self._last = FairShares[int, Denial](KEPT)
        self._tallies = FairShares[Pair, Tally](PAIRS)
        self._minute: deque[_Second] = deque()
        self._subscribers: list[Callable[[Denial], None]] = []
        self._labels = AppPairs()
        self.number = 0
        self.forgotten = 0  # denials of pairs that were given up for others
        self.lost = 0

    def add(
        self, pair: Pair, *, source_address: str, to_address: str, words: str = "", count: int = 1, tried: bool = False,
        names: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """One more, or so many at once. What was `tried` is marked, and in no tally: no app has asked for it."""
        at = self._now().replace(microsecond=0)
        self.number += 1
        said = "; ".join(filter(None, (words, TRIED if tried else "")))
        denial = Denial(self.number, at, pair, source_address, to_address, said)
        self._last.put(denial.number, denial, source=pair.source)
        for tell in self._subscribers:
            tell(denial)
        if pair.reason is Reason.AUDIT:
            self._metrics.audited.labels(pair.protocol).inc(count)
        else:
            self._metrics.denied.labels(pair.reason, pair.protocol).inc(count)
            if not tried:
                self._metrics.denied_pairs.labels(*self._labels.label(pair.source, pair.to)).inc(count)
        if not tried:
            self._tally(pair, count, names, at=at)
        self._count(pair, count, at=int(self._elapsed()))

    def subscribe(self, tell: Callable[[Denial], None]) -> None:
        """It is told of each from now on, and does not wait."""
        self._subscribers.append(tell)

    def since(self, number: int) -> tuple[Denial, ...]:
        """Those after `number` that are still kept, the oldest first."""
        return tuple(each for kept, each in self._last.items() if kept > number)

    def tallies(self) -> Iterator[tuple[Pair, Tally]]:
        """By pair, the one that was denied last at the end."""
        yield from self._tallies.items()

    def last_minute(self) -> Counter[Pair]:
        """How often each pair was denied, or passed on trial alone, in it; of a flood of pairs not all."""
        self._forget_minutes(int(self._elapsed()))
        found = Counter[Pair]()
        for each in self._minute:
            found.update(dict(each.pairs.items()))
        return found

    async def rows(self) -> Mapping[str, object]:
        """`denied`."""
        found = self.last_minute()
        denied, audited = sum(each.denied for each in self._minute), sum(each.audited for each in self._minute)
        return {"denied": DeniedRow(denied, _most(found, audits=False), self.lost, audited, _most(found, audits=True))}

    def _tally(self, pair: Pair, count: int, names: tuple[str, ...], *, at: datetime) -> None:
        tally = self._tallies.get(pair) or Tally(0, at, at)
        tally.count, tally.last, tally.names = tally.count + count, at, names or tally.names
        gone = self._tallies.put(pair, tally, source=pair.source)
        self.forgotten += 0 if gone is None else gone.count

    def _count(self, pair: Pair, count: int, *, at: int) -> None:
        if not self._minute or self._minute[-1].at != at:
            self._minute.append(_Second(at))
            self._forget_minutes(at)
        now = self._minute[-1]
        if pair.reason is Reason.AUDIT:
            now.audited += count
        else:
            now.denied += count
        now.pairs.put(pair, (now.pairs.get(pair) or 0) + count, source=pair.source)

    def _forget_minutes(self, second: int) -> None:
        while self._minute and self._minute[0].at <= second - MINUTE:
            self._minute.popleft()


def ends_of(pair: Pair) -> Mapping[str, object]:
    """As the API has them."""
    return {"from": pair.source, "to": pair.to, "protocol": pair.protocol, "port": pair.port, "reason": pair.reason}


def _most(found: Counter[Pair], *, audits: bool) -> tuple[str, ...]:
    """In words those that came most, of one of the two kinds."""
    chosen = Counter({pair: count for pair, count in found.items() if (pair.reason is Reason.AUDIT) is audits})
    return tuple(f"{in_words(pair)} {times(count)}" for pair, count in chosen.most_common(SHOWN))


def times(count: int) -> str:
    """`once`, `7 times`."""
    return "once" if count == 1 else f"{count} times"


def in_words(pair: Pair) -> str:
    """`acme/shop/web -> acme/shop/api tcp/8080 (policy)`."""
    port = f"/{pair.port}" if pair.port else ""
    return f"{pair.source} -> {pair.to} {pair.protocol}{port} ({pair.reason})"
