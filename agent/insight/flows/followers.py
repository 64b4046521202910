"""Those who follow what happens, and what each of them has still to be told. None of them can hold up what happens.

All is bounded: how many follow, and what waits for each. What a follower is too slow for is dropped, and it is told how much.
"""

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.errors import Unavailable
from agent.insight.flows.live_flow import Call

WAITING: Final = 1_000  # events, for each follower
MOST: Final = 32
EACH: Final = 8  # of one user who is not root; so many as MOST again are root's alone


class EventKind(StrEnum):
    """What happens, in the word that users see."""

    NEW = "new"  # a flow has begun
    ENDED = "ended"  # by itself
    CUT = "cut"  # since nothing allows it any longer
    REFUSED = "refused"
    AUDITED = "audited"  # and let through: a policy in audit alone allows it
    LOST = "lost"  # some of the others were not told
    FOLLOWING = "following"  # from here on all is told


TOLD: Final = (EventKind.NEW, EventKind.ENDED, EventKind.CUT, EventKind.REFUSED, EventKind.AUDITED)
FLOWS: Final = frozenset({EventKind.NEW, EventKind.ENDED})


@dataclass(frozen=True, slots=True)
class EventWish:
    """What a follower wants to be told."""

    kinds: frozenset[EventKind]
    wanted: Callable[[Call], bool]


class Follower:
    """One of them. `take` what is there when `news` is set."""

    def __init__(self, uid: int, wish: EventWish) -> None:
        self.uid = uid
        self.wish = wish
        self.news = asyncio.Event()
        self._waiting: deque[bytes] = deque()
        self.dropped = 0  # since the last take

    def put(self, message: bytes) -> None:
        """Waits until it is taken, or is dropped."""
        if len(self._waiting) < WAITING:
            self._waiting.append(message)
        else:
            self.dropped += 1
        self.news.set()

    def take(self) -> bytes:
        """All that waits, and how much was dropped behind it."""
        self.news.clear()
        found, dropped = b"".join(self._waiting), self.dropped
        self._waiting.clear()
        self.dropped = 0
        return found + (message(EventKind.LOST, {"dropped": dropped, "why": "you read too slowly"}) if dropped else b"")


class Followers:
    """One per agent. `changed` is set when who follows what is another."""

    def __init__(self) -> None:
        self._all: set[Follower] = set()
        self.changed = asyncio.Event()

    def join(self, wish: EventWish, *, uid: int) -> Follower:
        """One more. Raises Unavailable where there are too many."""
        own = Counter(each.uid for each in self._all)
        if (uid and own[uid] >= EACH) or len(self._all) >= MOST + (0 if uid else MOST):
            raise Unavailable("too many follow already", hint="end some of those that do")
        made = Follower(uid, wish)
        self._all.add(made)
        self.changed.set()
        return made

    def leave(self, follower: Follower) -> None:
        """It follows no longer."""
        self._all.discard(follower)
        self.changed.set()

    def want(self, kinds: Collection[EventKind]) -> bool:
        """Whether one of these is to be told to anybody."""
        return any(not each.wish.kinds.isdisjoint(kinds) for each in self._all)

    def tell(self, kind: EventKind, of: Call, view: Callable[[], Mapping[str, object]]) -> None:
        """To all who want it; what it looks like is asked for once, if any does."""
        text = b""
        for each in self._all:
            if kind in each.wish.kinds and each.wish.wanted(of):
                text = text or message(kind, view())
                each.put(text)

    def tell_lost(self, kinds: Collection[EventKind], view: Mapping[str, object]) -> None:
        """Something that those who follow one of these should have been told."""
        text = message(EventKind.LOST, view)
        for each in self._all:
            if not each.wish.kinds.isdisjoint(kinds):
                each.put(text)


def message(kind: EventKind, view: Mapping[str, object]) -> bytes:
    """As a server-sent event: the kind is in its data, too."""
    return f"event: {kind}\ndata: {json.dumps({'kind': kind.value, **view})}\n\n".encode()
