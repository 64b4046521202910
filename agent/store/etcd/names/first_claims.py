"""Whose names are, as this cell saw it first.

Each cell must be able to claim what is free, and etcd's roles know no "only where nothing is": a cell may write over another's
claim, delete it, or make it anew. So a claim holds for the owner that was seen first, whatever its record says later, as long
as instances run that have the name by it, and for a minute without one: the first is on its way, or its cell's agent is being
restarted. What the record says is left out then. One that was changed after it was made says nothing to a cell that has not
seen it before.

Of claims that come together, as at an agent's first start, the one that was made first holds.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic

from agent.store.etcd.names.records import Claim, Owner

REST = 60.0  # seconds without an instance


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a claim does not hold; nothing need be said of it where that is empty. `by` is the name that is in the way."""

    by: str
    why: str


class FirstClaims(Generic[Owner]):
    """`holds` has each name's owner, `left_out` what to say of a name's record.

    `lives`: an owner has instances by that name; `now`: seconds of a clock that is not set.
    """

    def __init__(self, *, lives: Callable[[str, Owner], bool], now: Callable[[], float]) -> None:
        self._lives: Callable[[str, Owner], bool] = lives
        self._now = now
        self._since: dict[str, float] = {}  # when a name was taken, or its last instance went
        self._resting: set[str] = set()  # that hold against their record, without an instance
        self._behind: dict[str, set[str]] = {}  # by the name that is in their way
        self._barred: dict[str, str] = {}  # the same the other way round
        self._disputed: Mapping[str, Owner] | None = None
        self.records: dict[str, Claim[Owner]] = {}
        self.holds: dict[str, Owner] = {}
        self.left_out: dict[str, str] = {}

    def ended(self, name: str, owner: Owner) -> Obstacle | None:
        """What is in the way even of a claim that was seen first."""
        del name, owner
        return None

    def rival(self, name: str, owner: Owner) -> Obstacle | None:
        """What is in the way of a claim that is seen for the first time."""
        del name, owner
        return None

    def set_holder(self, name: str, owner: Owner | None) -> None:
        """The owner from now on."""
        self._disputed = None
        self._resting.discard(name)
        if owner is None:
            self.holds.pop(name, None)
            self._since.pop(name, None)
        else:
            self.holds[name], self._since[name] = owner, self._now()

    def rest(self, name: str) -> None:
        """Its owner's last instance has gone."""
        if name in self.holds:
            self._since[name] = self._now()

    def forget(self, name: str) -> None:
        """What was claimed before no longer counts; its record, if there is one, is seen as if for the first time."""
        self.set_holder(name, None)

    def behind(self, name: str) -> frozenset[str]:
        """The names whose claims this one is in the way of."""
        return frozenset(self._behind.get(name, ()))

    def judge(self, names: Iterable[str]) -> set[str]:
        """Decide anew whose these are, and those they were in the way of. Returns those with another owner than before."""
        over: set[str] = {name for name in self._resting if not self._is_recent(name)}
        changed, waiting = set[str](), deque[str](sorted({*names, *over}, key=self._age))
        while waiting:
            name = waiting.popleft()
            before = self.holds.get(name)
            self._decide(name)
            if self.holds.get(name) != before:
                changed.add(name)
                waiting.extend(sorted(self.behind(name), key=self._age))
        return changed

    def _age(self, name: str) -> tuple[int, str]:
        claim = self.records.get(name)
        return (0 if claim is None else claim.created, name)

    def _decide(self, name: str) -> None:
        self._clear(name)
        first, claim = self.holds.get(name), self.records.get(name)
        if first is not None:
            obstacle = self.ended(name, first)
            if obstacle is None and self._stays(name, first, claim):
                self._say(name, _of_record(claim, first))
                return
            self.set_holder(name, None)
        if claim is None:
            return
        obstacle = self.ended(name, claim.owner) or self._unknown(name, claim) or self.rival(name, claim.owner)
        if obstacle is None:
            self.set_holder(name, claim.owner)
            return
        self._say(name, obstacle.why)
        self._behind.setdefault(obstacle.by, set()).add(name)
        self._barred[name] = obstacle.by

    def _stays(self, name: str, first: Owner, claim: Claim[Owner] | None) -> bool:
        self._resting.discard(name)
        if (claim is not None and claim.owner == first) or self._lives(name, first):
            return True
        if not self._is_recent(name):
            return False
        self._resting.add(name)
        return True

    def _is_recent(self, name: str) -> bool:
        return self._now() - self._since[name] < REST

    @staticmethod
    def _unknown(name: str, claim: Claim[Owner]) -> Obstacle | None:
        return None if claim.is_as_made else Obstacle(name, "it was changed after it was made: whose it was first is not known")

    def _say(self, name: str, why: str) -> None:
        self._disputed = None
        if why:
            self.left_out[name] = why

    def _clear(self, name: str) -> None:
        self._disputed = None
        self.left_out.pop(name, None)
        by = self._barred.pop(name, None)
        if by is not None:
            self._behind[by].discard(name)
            if not self._behind[by]:
                del self._behind[by]

    def disputed(self) -> Mapping[str, Owner]:
        """Owners by name that a cell could not tell from the records alone. The same object as long as nothing changed."""
        if self._disputed is None:
            self._disputed = MappingProxyType(dict(self._find_disputed()))
        return self._disputed

    def deleted(self) -> Iterator[tuple[str, Owner]]:
        """Names and their owners, whose claims have no record any more."""
        for name in self.left_out:
            if name in self.holds and name not in self.records:
                yield name, self.holds[name]

    def _find_disputed(self) -> Iterator[tuple[str, Owner]]:
        for name in {*self.left_out, *self._behind}:
            if name in self.holds:
                yield name, self.holds[name]


def _of_record(claim: Claim[Owner] | None, first: Owner) -> str:
    """What to say of the record of a name that `first` holds."""
    if claim is None:
        return f"it was deleted, but {first} had it first, and has not gone"
    if claim.owner != first:
        return f"it names {claim.owner}, but {first} had it first, and has not gone"
    return "" if claim.is_as_made else f"it was changed after it was made; {first} had it first"
