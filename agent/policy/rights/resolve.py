"""Who may reach one app: policies and the known apps in, rights of tags out. Pure.

Between the language and the dataplane: a destination costs only the policies that concern it, and an answer that is
the same as before is the same object, so that whoever compares two states sees at once that nothing changed.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from agent.model.names import AppName
from agent.model.policy import AppPolicy, Opening, Pattern, Policy, Ports, Protocol, Scope, between_apps
from agent.policy.language.ports import merged, without
from agent.policy.rights.index import Parts, PolicyIndex, parts_of
from dataplane.state import Allow

Policies = tuple[AppPolicy, ...]
P = TypeVar("P", bound=Opening)
MOST_RIGHTS = 4096  # to one app: so many lines its containers' chains may have, each of which is written when one changes


def _destination(policy: AppPolicy) -> tuple[Pattern]:
    return (policy.to,)


def meant(source: Pattern | Scope, *, to: AppName) -> Pattern:
    """A scope as the pattern it is for one destination."""
    match source:
        case Pattern():
            return source
        case Scope.SAME_SPACE:
            return Pattern(to.org, to.space, None)
        case Scope.SAME_ORG:
            return Pattern(to.org, None, None)


class Census:
    """The known apps with their tags, by what a pattern may mean."""

    def __init__(self, tags: Mapping[AppName, int]) -> None:
        self.tags: dict[AppName, int] = {}
        self._wide: dict[Parts, set[int]] = {}
        self._groups: dict[str, frozenset[int]] = {}
        self._stale: set[Parts] = set()
        self.follow(tags)

    def follow(self, tags: Mapping[AppName, int]) -> set[AppName]:
        """Take other tags, and return the apps that have another one, or none any more: usually few of thousands."""
        changed = {app for app, tag in tags.items() if self.tags.get(app) != tag}
        if len(self.tags) + len(changed) != len(tags):
            changed |= {app for app in self.tags if app not in tags}
        for app in changed:  # a number may pass from one app to another
            self._leave(app)
        for app in changed:
            if app in tags:
                self.tags[app] = tags[app]
                for parts in parts_of(app)[1:]:
                    self._wide.setdefault(parts, set()).add(tags[app])
                    self._stale.add(parts)
        return changed

    def _leave(self, app: AppName) -> None:
        tag = self.tags.pop(app, None)
        for parts in parts_of(app)[1:] if tag is not None else ():
            self._wide[parts].discard(tag)
            self._stale.add(parts)

    def source(self, pattern: Pattern) -> tuple[int, str] | None:
        """The tag of the one app that the pattern means (None if it is not known), or the name of the group."""
        exact = pattern.exact()
        if exact is None:
            return 0, str(pattern)
        tag = self.tags.get(exact)
        return None if tag is None else (tag, "")

    def groups(self) -> Mapping[str, frozenset[int]]:
        """The known apps of every space and org, by the pattern that means them."""
        if self._stale:
            changed = {str(Pattern(*parts)): frozenset(self._wide[parts]) for parts in self._stale}
            self._groups = {name: tags for name, tags in (self._groups | changed).items() if tags}
            self._wide = {parts: tags for parts, tags in self._wide.items() if tags}
            self._stale.clear()
        return self._groups


def resolve(policies: Iterable[AppPolicy], *, census: Census, to: AppName) -> frozenset[Allow]:
    """The rights to reach `to` under policies that all concern it; per tag and protocol in as few ranges as possible."""
    ranges: dict[tuple[int, str, Protocol, bool], set[Ports]] = {}
    for policy in policies:
        sources = {key for source in policy.sources if (key := census.source(meant(source, to=to))) is not None}
        for protocol in Protocol:
            if ports := policy.ports(protocol):
                for tag, group in sources:
                    ranges.setdefault((tag, group, protocol, policy.audit), set()).update(ports)
    opened = {key: merged(found) for key, found in ranges.items()}
    return frozenset(
        Allow(tag, protocol.value, ports.first, ports.last, group, audit)
        for (tag, group, protocol, audit), found in opened.items()
        for ports in (without(found, opened.get((tag, group, protocol, False), ())) if audit else found)
    )


def fitting(policies: Policies, *, census: Census, to: AppName, most: int) -> Policies:
    """Those that together are `most` rights at the most, in the order given: one that is too large keeps no other out."""
    kept, left = [], most
    for policy in policies:
        sources = {meant(source, to=to) for source in policy.sources}
        rights = sum(len(policy.ports(each)) for each in Protocol) * sum(census.source(each) is not None for each in sources)
        if rights <= left:
            kept.append(policy)
            left -= rights
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was resolved, and from what. Of the policies those are `kept` that are no more rights than `MOST_RIGHTS`."""

    policies: Policies
    patterns: frozenset[Pattern]
    allows: frozenset[Allow]
    kept: Policies

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the others."""
        chosen = frozenset(map(id, self.kept))
        return tuple(each.name for each in self.policies if id(each) not in chosen)


def permitting(policies: Iterable[P], *, protocol: Protocol, port: int) -> P | None:
    """Of those that speak of both ends the one by which a connection passes: one in audit only where there is no other."""
    found = [each for each in policies if any(port in ports for ports in each.ports(protocol))]
    return next((each for each in found if not each.audit), found[0] if found else None)


class PolicyResolver:
    """Answers for all destinations, kept as long as what they were made of is the same."""

    def __init__(self) -> None:
        self._policies: tuple[Policy, ...] = ()
        self._index = PolicyIndex(_destination)
        self._census = Census({})
        self._tags: Mapping[AppName, int] | None = None
        self._answers: dict[AppName, _Answer] = {}

    def follow(self, policies: tuple[Policy, ...]) -> None:
        """Take the policies in force alone, which is enough for `check` and `ports`."""
        if policies is not self._policies:
            self._policies = policies
            self._index.follow(between_apps(policies))

    def update(self, policies: tuple[Policy, ...], tags: Mapping[AppName, int]) -> None:
        """Take the policies in force and the known apps; cheap where they are the objects of the last call."""
        self.follow(policies)
        if tags is self._tags:
            return
        self._tags = tags
        changed = self._census.follow(tags)
        if changed:
            self._answers = dict(self._refreshed(changed))

    def groups(self) -> Mapping[str, frozenset[int]]:
        """What the group names in the answers stand for."""
        return self._census.groups()

    def allows(self, to: AppName) -> frozenset[Allow]:
        """Who may reach `to`; the same object as before where the answer is the same."""
        concerning = self._index.concerning(to)
        known = self._answers.get(to)
        if known is not None and known.policies == concerning:
            return known.allows
        return self._answer(to, concerning, known).allows

    def check(self, source: AppName, to: AppName, *, protocol: Protocol, port: int) -> AppPolicy | None:
        """The first policy that allows it, one in audit last; or None. The apps need not exist."""
        return permitting(self.allowing(source, to), protocol=protocol, port=port)

    def ports(self, source: AppName, to: AppName) -> Mapping[Protocol, tuple[Ports, ...]]:
        """All that `source` may reach at `to`."""
        allowing = tuple(self.allowing(source, to))
        return {protocol: merged(ports for policy in allowing for ports in policy.ports(protocol)) for protocol in Protocol}

    def allowing(self, source: AppName, to: AppName) -> Iterator[AppPolicy]:
        """The policies in force that speak of both; what is left out for an app that has instances here is not in force."""
        concerning, known = self._index.concerning(to), self._answers.get(to)
        for policy in known.kept if known is not None and known.policies == concerning else concerning:
            if any(meant(each, to=to).matches(source) for each in policy.sources):
                yield policy

    def left_out(self) -> Mapping[AppName, tuple[str, ...]]:
        """The policies that are not in force for a destination, since it would have more than `MOST_RIGHTS`."""
        return {app: answer.left_out for app, answer in self._answers.items() if len(answer.kept) < len(answer.policies)}

    def forget(self, living: Collection[AppName]) -> None:
        """Drop the answers of destinations that are gone, so that memory does not grow with every app that ever was."""
        self._answers = {app: answer for app, answer in self._answers.items() if app in living}

    def _answer(self, to: AppName, concerning: tuple[AppPolicy, ...], known: _Answer | None) -> _Answer:
        allows, kept = resolve(concerning, census=self._census, to=to), concerning
        if len(allows) > MOST_RIGHTS:
            kept = fitting(concerning, census=self._census, to=to, most=MOST_RIGHTS)
            allows = resolve(kept, census=self._census, to=to)
        if known is not None and known.allows == allows:
            allows = known.allows
        patterns = frozenset(meant(source, to=to) for policy in concerning for source in policy.sources)
        self._answers[to] = _Answer(concerning, patterns, allows, kept)
        return self._answers[to]

    def _refreshed(self, changed: Collection[AppName]) -> Iterator[tuple[AppName, _Answer]]:
        """The answers after other apps are known: only those are made again that a changed app is part of."""
        touched = {Pattern(app.org, app.space, app.app) for app in changed}  # a group's right is the same whoever is in it
        for to, answer in tuple(self._answers.items()):
            yield to, answer if touched.isdisjoint(answer.patterns) else self._answer(to, answer.policies, answer)
