"""Which apps an app may reach by the policies in force: the same question as in resolve.py, asked from the other end. Pure.

It is asked when a container is attached and when its environment is read, and again after each change, for every app that has
containers here. So policies are kept by their sources, and of thousands only those that have changed are taken up.
"""

from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from agent.model.names import AppName
from agent.model.policy import AppPolicy, Pattern, Policy, Scope, between_apps
from agent.policy.difference import difference
from agent.policy.rights.index import Parts, parts_of


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a source may go; with `own_space` only to what is in its own space."""

    to: Pattern
    own_space: bool = False


class Reach:
    """What all sources may reach. Ports do not matter here: an app that may be reached on one is reached."""

    def __init__(self) -> None:
        self._policies: tuple[Policy, ...] = ()
        self._between_apps: tuple[AppPolicy, ...] = ()
        self._targets: dict[Parts, Counter[_Target]] = {}  # by source, with how many policies lead there
        self._known: AbstractSet[AppName] = frozenset()
        self._apps: dict[tuple[str, str], set[AppName]] = {}  # by org and space
        self._spaces: dict[str, set[tuple[str, str]]] = {}  # by org

    def follow(self, policies: tuple[Policy, ...], *, known: AbstractSet[AppName]) -> None:
        """Take the policies in force, and the apps that a scope or a star may mean; cheap for the objects of the last call."""
        if policies is not self._policies:
            found = between_apps(policies)
            change = difference(self._between_apps, found)
            for policy in change.removed:
                self._leave(policy)
            for policy in change.added:
                for source, target in _edges(policy):
                    self._targets.setdefault(source, Counter())[target] += 1
            self._policies, self._between_apps = policies, found
        if known is not self._known:
            self._follow_apps(known)

    def of(self, source: AppName) -> frozenset[AppName]:
        """The apps that `source` may reach: those that a policy spells out, whether they are known or not, and the known ones
        of a space or an org that it opens.
        """
        targets = {target for key in parts_of(source) for target in self._targets.get(key, ())}
        return frozenset(app for target in targets for app in self._meant(target, source))

    def _meant(self, target: _Target, source: AppName) -> AbstractSet[AppName]:
        exact = target.to.exact()
        if exact is not None:
            return {exact}
        if target.own_space:
            return self._apps.get((source.org, source.space), frozenset())
        if target.to.space is not None:
            return self._apps.get((target.to.org, target.to.space), frozenset())
        return frozenset[AppName]().union(*(self._apps[space] for space in self._spaces.get(target.to.org, ())))

    def _leave(self, policy: AppPolicy) -> None:
        for source, target in _edges(policy):
            held = self._targets[source]
            held[target] -= 1
            if not held[target]:
                del held[target]
            if not held:
                del self._targets[source]

    def _follow_apps(self, known: AbstractSet[AppName]) -> None:
        for app in self._known - known:
            space = (app.org, app.space)
            self._apps[space].discard(app)
            if not self._apps[space]:
                del self._apps[space]
                self._spaces[app.org].discard(space)
        for app in known - self._known:
            space = (app.org, app.space)
            self._apps.setdefault(space, set()).add(app)
            self._spaces.setdefault(app.org, set()).add(space)
        self._known = known


def _edges(policy: AppPolicy) -> Iterator[tuple[Parts, _Target]]:
    """From where to where a policy leads. A scope is the space or the org of its destination."""
    to = policy.to
    for source in policy.sources:
        match source:
            case Pattern():
                yield (source.org, source.space, source.app), _Target(to)
            case Scope.SAME_SPACE:
                yield (to.org, to.space, None), _Target(to, own_space=to.space is None)
            case Scope.SAME_ORG:
                yield (to.org, None, None), _Target(to)
