"""Policies by the apps at one end of them: an app costs only those that concern it, a change only the apps that it names."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Generic, TypeVar

from agent.model.names import AppName
from agent.model.policy import Pattern
from agent.policy.difference import difference

P = TypeVar("P")
Parts = tuple[str, str | None, str | None]
FEW = 8  # patterns; where policies of more have changed, all are sorted anew


class PolicyIndex(Generic[P]):
    """`end` gives the patterns by which a policy is found."""

    def __init__(self, end: Callable[[P], Iterable[Pattern]], policies: tuple[P, ...] = ()) -> None:
        self._end = end
        self._policies: tuple[P, ...] = ()
        self._by_parts: dict[Parts, tuple[P, ...]] = {}
        self.follow(policies)

    def follow(self, policies: tuple[P, ...]) -> frozenset[Parts]:
        """Take other policies: of thousands usually those of one app have changed. Returns the patterns of those that have."""
        change = difference(self._policies, policies)
        before, behind = self._policies[: change.place], self._policies[change.place + len(change.removed) :]
        # with the objects that are sorted already, which are found by identity
        self._policies = (*before, *change.added, *behind)
        removed, added = self._sorted(change.removed), self._sorted(change.added)
        touched = removed.keys() | added.keys()
        if len(touched) > FEW:
            self._by_parts = {parts: tuple(found) for parts, found in self._sorted(self._policies).items()}
        else:
            for parts in touched:
                self._replace(parts, removed.get(parts, ()), added.get(parts, ()), before=before)
        return frozenset(touched)

    def _replace(self, parts: Parts, removed: Sequence[P], added: Sequence[P], *, before: tuple[P, ...]) -> None:
        found = self._by_parts.pop(parts, ())
        ours = frozenset(map(id, found))
        place = sum(map(ours.__contains__, map(id, before))) if ours else 0  # in C, as `before` may be 60,000
        if now := (*found[:place], *added, *found[place + len(removed) :]):
            self._by_parts[parts] = now

    def concerning(self, app: AppName) -> tuple[P, ...]:
        """The policies that mean `app`, the most exact first, each group in the order given; twice what means it twice."""
        found = self.groups(app)
        return found[0] if len(found) == 1 else tuple(chain.from_iterable(found))

    def groups(self, app: AppName) -> tuple[tuple[P, ...], ...]:
        """The same, each group by itself: the very objects as long as they are not touched, which other apps have, too."""
        get = self._by_parts.get  # each turn asks for all containers' apps
        exact, space, org = get((app.org, app.space, app.app)), get((app.org, app.space, None)), get((app.org, None, None))
        return tuple(filter(None, (exact, space, org)))

    def _sorted(self, policies: Iterable[P]) -> dict[Parts, list[P]]:
        found: dict[Parts, list[P]] = {}
        for policy in policies:
            for pattern in self._end(policy):
                found.setdefault((pattern.org, pattern.space, pattern.app), []).append(policy)
        return found


def parts_of(app: AppName) -> tuple[Parts, Parts, Parts]:
    """Those of the patterns that mean an app: its own, its space's, its org's."""
    return (app.org, app.space, app.app), (app.org, app.space, None), (app.org, None, None)
