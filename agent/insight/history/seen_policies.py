"""Which policies of files and of the store have changed, by whatever, or have ended, told to the history by their names."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeAlias

from agent.insight.history.history import History
from agent.insight.history.on_disk import HistoryArea
from agent.model.policy import Policy
from agent.policy.difference import difference
from agent.wording import listed

Place: TypeAlias = tuple[str, str]
"""Of a policy: its file, or the store, and its name."""
NAMED: Final = 10  # policies of each kind of change


class SeenPolicies:
    """One per agent. `written` is the same object while policies are the same, those that have ended included; `in_force`,
    without these, while that is the same, too.
    """

    def __init__(
        self,
        history: History,
        *,
        written: Callable[[], Awaitable[tuple[Policy, ...]]],
        in_force: Callable[[], Awaitable[tuple[Policy, ...]]],
    ) -> None:
        self._history = history
        self._written = written
        self._in_force = in_force
        self._known: tuple[Policy, ...] | None = None
        self._holding: tuple[Policy, ...] = ()
        self._ended: frozenset[Place] = frozenset()

    async def look(self) -> None:
        """Compare with the last look; at the first there is nothing to compare with."""
        known, self._known = self._known, await self._written()
        if known is not None and known is not self._known:
            change = difference(known, self._known)
            for place, words in _by_place(change.removed, change.added):
                self._history.add(HistoryArea.POLICIES, f"{place}: {words}")
        await self._compare_ends(self._known, is_first=known is None)

    async def _compare_ends(self, written: tuple[Policy, ...], *, is_first: bool) -> None:
        holding = await self._in_force()
        if holding is self._holding and not is_first:
            return
        self._holding, before, held = holding, self._ended, set(map(id, holding))
        self._ended = frozenset(_place(each) for each in written if each.until is not None and id(each) not in held)
        back = before.intersection(_place(each) for each in holding if each.until is not None) if before else frozenset()
        for word, places in (("ended", () if is_first else self._ended - before), ("holds again", back)):
            for source in sorted({source for source, _ in places}):
                names = sorted(name for at, name in places if at == source)
                self._history.add(HistoryArea.POLICIES, f"{source}: {word} {listed(names, most=NAMED)}")


def _place(policy: Policy) -> Place:
    return policy.origin.source, policy.name


def _by_place(removed: Iterable[Policy], added: Iterable[Policy]) -> Iterator[tuple[str, str]]:
    """What happened in each file, and in the store."""
    before, after = ({(each.origin.source, each.name): each for each in policies} for policies in (removed, added))
    for place in sorted({place for place, _ in before.keys() | after.keys()}):
        old, new = ({name: each for (at, name), each in found.items() if at == place} for found in (before, after))
        changed = [name for name in sorted(old.keys() & new.keys()) if not _is_as(old[name], new[name])]
        said = (("added", sorted(new.keys() - old.keys())), ("changed", changed), ("removed", sorted(old.keys() - new.keys())))
        words = [f"{word} {listed(names, most=NAMED)}" for word, names in said if names]
        if words:
            yield place, "; ".join(words)


def _is_as(one: Policy, other: Policy) -> bool:
    """Whether they say the same: one that only stands on another line has not changed."""
    return type(one) is type(other) and all(
        getattr(one, name) == getattr(other, name) for name in one.__dataclass_fields__ if name != "origin"
    )
