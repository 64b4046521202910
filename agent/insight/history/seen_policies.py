"""Which policies of files and of the store have changed, by whatever, told to the history by their names."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from agent.insight.history.history import History
from agent.insight.history.on_disk import HistoryArea
from agent.model.policy import Policy
from agent.policy.difference import difference
from agent.wording import listed

NAMED: Final = 10  # policies of each kind of change


class SeenPolicies:
    """One per agent. `written` is the same object while policies are the same, those that have ended included."""

    def __init__(self, history: History, *, written: Callable[[], Awaitable[tuple[Policy, ...]]]) -> None:
        self._history = history
        self._written = written
        self._known: tuple[Policy, ...] | None = None

    async def look(self) -> None:
        """Compare with the last look; at the first there is nothing to compare with."""
        known, self._known = self._known, await self._written()
        if known is None or known is self._known:
            return
        change = difference(known, self._known)
        for place, words in _by_place(change.removed, change.added):
            self._history.add(HistoryArea.POLICIES, f"{place}: {words}")


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
