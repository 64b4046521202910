"""Calls that Envoy has refused: counted by reason, logged with caller and callee, the last of them kept for who asks.

Each is counted. Of those from one container to another only some are logged and kept, and of one container's to all others
together, so that a flood neither fills the log nor pushes out what others were refused; the next of the pair that is logged
says how many were not.
"""

import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from typing import Final, Self, TypeVar

from agent import log
from agent.envoy.dated_certificates import DatedCertificates
from agent.metrics import Metrics
from agent.model.status import EVENTS_KEPT, Part, Problem
from dataplane.envoy.refusal import Check, Refusal

KEPT: Final = 1_000
# Of one container's calls to another: so many at once, and one more in so many seconds; and to all others together
BURST, EVERY = 10, 1.0
SOURCE_BURST, SOURCE_EVERY = 100, 0.2
PAIRS: Final = 4_096
Key = TypeVar("Key")
Known = TypeVar("Known")
_ID: Final = re.compile("spiffe://[^/]+/org/([^/]+)/space/([^/]+)/app/([^/]+)")


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """`at` in UTC. `caller` is the SPIFFE id that was shown, and `verified` whether it was proved; `app` is what was called,
    empty where it is another cell's; `port` is 0 where it is not known. `more` calls of this pair were not logged before."""

    at: datetime
    reason: str
    caller: str
    verified: bool
    source: IPv4Address
    app: str
    destination: IPv4Address
    port: int
    words: str
    more: int


@dataclass(frozen=True, slots=True)
class RefusalsRow:
    """Since the agent's start. `lost` were refused too, but Envoy could not say which; `last` are the newest, newest first."""

    count: int
    lost: int
    reasons: Mapping[str, int]
    last: tuple[RefusedCall, ...]


@dataclass(slots=True)
class _Credit:
    """How many more may be logged, as of when."""

    most: int
    every: float
    since: float
    left: float

    @classmethod
    def full(cls, most: int, every: float, *, now: float) -> Self:
        return cls(most, every, now, most)

    def may(self, now: float) -> bool:
        self.left = min(self.most, self.left + (now - self.since) / self.every)
        self.since = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class _Pair:
    """What may be logged of one container's calls to another, and how many were not."""

    credit: _Credit
    unlogged: int = 0


class RefusedCalls(Part):
    """`elapsed` is in seconds and never jumps, `now` is UTC; `lost` is how many Envoy could not report, as far as is known.
    `also` is told of each.
    """

    def __init__(
        self, *, metrics: Metrics, elapsed: Callable[[], float], now: Callable[[], datetime], lost: Callable[[], int],
        also: Callable[[Sequence[Refusal]], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._also = also
        self._metrics = metrics
        self._elapsed = elapsed
        self._now = now
        self._lost = lost
        self._log = log.get("refusals")
        self._reasons = Counter[Check]()
        self._pairs = OrderedDict[tuple[IPv4Address, IPv4Address], _Pair]()
        self._sources = OrderedDict[IPv4Address, _Credit]()
        self._dated = DatedCertificates(elapsed)
        self.last: deque[RefusedCall] = deque(maxlen=KEPT)

    def problems(self) -> Iterator[Problem]:
        """Certificates that are refused for their dates."""
        return self._dated.problems()

    async def rows(self) -> Mapping[str, object]:
        """`refusals`."""
        newest = tuple(self.last)[-EVENTS_KEPT:][::-1]
        reasons = {str(check): count for check, count in sorted(self._reasons.items())}
        return {"refusals": RefusalsRow(self._reasons.total(), self._lost(), reasons, newest)}

    def take(self, refusals: Sequence[Refusal]) -> None:
        """What Envoy reports. A tunnel that was not taken, and what an audit let in, is no refusal of Envoy's."""
        now = self._elapsed()
        self._also(refusals)
        refusals = [each for each in refusals if each.check not in (Check.TUNNEL, Check.AUDIT)]
        self._dated.take(refusals)
        for check, count in Counter(each.check for each in refusals).items():
            self._reasons[check] += count
            self._metrics.refused_calls.labels(check).inc(count)
        for each in refusals:
            pair = _recent(self._pairs, (each.source, each.destination), lambda: _Pair(_Credit.full(BURST, EVERY, now=now)))
            source = _recent(self._sources, each.source, lambda: _Credit.full(SOURCE_BURST, SOURCE_EVERY, now=now))
            if pair.credit.may(now) and source.may(now):
                self._keep(each, more=pair.unlogged)
                pair.unlogged = 0
            else:
                pair.unlogged += 1

    def _keep(self, refusal: Refusal, *, more: int) -> None:
        call = RefusedCall(
            at=self._now().replace(microsecond=0),
            reason=str(refusal.check),
            caller=refusal.caller,
            verified=refusal.verified,
            source=refusal.source,
            app=app_of(refusal.callee),
            destination=refusal.destination,
            port=refusal.port,
            words=refusal.words,
            more=more,
        )
        self.last.append(call)
        self._log.warning(
            "call_refused", reason=call.reason, caller=call.caller, verified=call.verified, source=str(call.source),
            app=call.app, destination=str(call.destination), port=call.port, words=call.words, more=more,
        )  # fmt: skip


def _recent(known: OrderedDict[Key, Known], key: Key, make: Callable[[], Known]) -> Known:
    """The one of `key`, made where there is none; forgets that which was asked for longest ago where they are too many."""
    if key not in known:
        known[key] = make()
    known.move_to_end(key)
    if len(known) > PAIRS:
        known.popitem(last=False)
    return known[key]


def app_of(identity: str) -> str:
    """`spiffe://cell.internal/org/acme/space/shop/app/web` -> `acme/shop/web`; what is no app's id as it is."""
    found = _ID.fullmatch(identity)
    return "/".join(found.groups()) if found else identity
