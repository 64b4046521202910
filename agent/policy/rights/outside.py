"""What an app may reach outside of the overlay, and from where there it may be reached: policies in, rights of the dataplane
out. Pure.

The same question as in resolve.py, where both ends are apps. An app costs only the policies that concern it. An answer that is
the same as before is the same object, and apps of the same rights share one: what follows from it is worked out once.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import Generic, TypeAlias, TypeVar

from agent.model.names import AppName
from agent.model.outside import Cidrs, HostPattern, Hosts, united
from agent.model.policy import EgressPolicy, IngressPolicy, Opening, Pattern, Policy, Ports, Protocol
from agent.policy.language.ports import merged
from agent.policy.rights.index import PolicyIndex, parts_of
from agent.policy.rights.resolve import MOST_RIGHTS
from dataplane.memo import Memo
from dataplane.state import OutsideRight

MOST_ENDS = 1 << 16  # networks and names in all rights of one app in one direction: as many as one set of the kernel may have
MANY = 1 << 16  # ends that are remembered

E = TypeVar("E", tuple[IPv4Network, ...], HostPattern)
P = TypeVar("P", bound=EgressPolicy | IngressPolicy)
Rights: TypeAlias = frozenset[OutsideRight]
Stranger: TypeAlias = IPv4Address | HostPattern
"""One end of a connection that is outside; a name is exact."""
End: TypeAlias = tuple[IPv4Network, ...] | HostPattern
NONE: Rights = frozenset()


@dataclass(frozen=True, slots=True)
class _OutsideAnswer(Generic[P]):
    """What was worked out, and from what. Of the policies those are `kept` that are no more than an app can have."""

    groups: tuple[tuple[P, ...], ...]
    rights: Rights
    kept: tuple[P, ...]
    left_out: tuple[str, ...]


class Direction(Generic[P]):
    """Out of the overlay, or into it: policies by the `apps` that they name, with what is `outside` in them."""

    def __init__(self, apps: Callable[[P], Iterable[Pattern]], outside: Callable[[P], Cidrs | Hosts]) -> None:
        self._index = PolicyIndex[P](apps)
        self._outside = outside
        self._ends = Memo[P, tuple[End, ...]](lambda policy: _ends_of(outside(policy)))
        self._answers: dict[AppName, _OutsideAnswer[P]] = {}
        self._made: dict[tuple[int, ...], _OutsideAnswer[P]] = {}  # by the very groups of policies, which many apps share
        self._rights: dict[Rights, Rights] = {}

    def follow(self, policies: tuple[P, ...]) -> None:
        """Take other policies."""
        touched = self._index.follow(policies)
        if touched:
            self._forget_unused()
            self._answers = {app: each for app, each in self._answers.items() if touched.isdisjoint(parts_of(app))}

    def rights(self, app: AppName) -> Rights:
        """Those of one app; the same object as before where they are the same."""
        known = self._answers.get(app)
        if known is None:
            known = self._answers[app] = self._answer(self._index.groups(app))
        return known.rights

    def allowing(self, app: AppName, stranger: Stranger) -> tuple[P, ...]:
        """The policies in force that speak of both; what is left out for an app that has instances here is not in force."""
        return tuple(each for each in self.of(app) if is_meant(stranger, self._outside(each)))

    def of(self, app: AppName) -> tuple[P, ...]:
        """All policies in force that speak of it."""
        known = self._answers.get(app)
        return self._index.concerning(app) if known is None else known.kept

    def left_out(self) -> Mapping[AppName, tuple[str, ...]]:
        """The policies that are not in force for an app, since its rights would be too many."""
        return {app: each.left_out for app, each in self._answers.items() if each.left_out}

    def forget(self, living: Collection[AppName]) -> None:
        """Drop the answers of apps that are gone, so that memory does not grow with every app that ever was."""
        if self._answers.keys() - living:
            self._answers = {app: answer for app, answer in self._answers.items() if app in living}

    def _forget_unused(self) -> None:
        """Drop what was made of policies that are gone. Rights that an app has now are found again, if it gets equal ones."""
        if len(self._made) > 2 * len(self._answers):
            used = set(map(id, self._answers.values()))
            self._made = {key: answer for key, answer in self._made.items() if id(answer) in used}
            self._rights = {each.rights: each.rights for each in self._answers.values()}

    def _answer(self, groups: tuple[tuple[P, ...], ...]) -> _OutsideAnswer[P]:
        key = tuple(map(id, groups))  # which stand for them as long as the answer holds them
        if key not in self._made:
            policies = tuple({id(each): each for group in groups for each in group}.values())
            rights, kept = self._rights_of(policies), policies
            if not _fits(rights):
                kept = self._fitting(policies)
                rights = self._rights_of(kept)
            chosen = frozenset(map(id, kept))
            left_out = tuple(each.name for each in policies if id(each) not in chosen)
            self._made[key] = _OutsideAnswer(groups, self._rights.setdefault(rights, rights), kept, left_out)
        return self._made[key]

    def _fitting(self, policies: Iterable[P]) -> tuple[P, ...]:
        """Those that together fit, in the order given: one that is too large keeps no other out."""
        kept, rights, ends = [], MOST_RIGHTS, MOST_ENDS
        for policy in policies:
            found = self._rights_of((policy,))
            size = sum(len(each.networks) + len(each.names) for each in found)
            if len(found) <= rights and size <= ends:
                kept.append(policy)
                rights, ends = rights - len(found), ends - size
        return tuple(kept)

    def _rights_of(self, policies: Iterable[P]) -> Rights:
        return rights_of((policy, self._ends.of(policy)) for policy in policies)


@dataclass(frozen=True, slots=True)
class BothWays:
    """The rights of one app to the outside, and those of the outside to it."""

    egress: Rights = NONE
    ingress: Rights = NONE


class OutsideResolver:
    """Answers for all apps, kept as long as what they were made of is the same."""

    def __init__(self) -> None:
        self._policies: tuple[Policy, ...] = ()
        self.egress = Direction[EgressPolicy](lambda each: each.sources, lambda each: each.to)
        self.ingress = Direction[IngressPolicy](lambda each: (each.to,), lambda each: each.sources)
        self._known: dict[AppName, BothWays] = {}

    def follow(self, policies: tuple[Policy, ...]) -> None:
        """Take the policies in force; cheap where they are the object of the last call."""
        if policies is not self._policies:
            self._policies, self._known = policies, {}
            self.egress.follow(tuple(each for each in policies if type(each) is EgressPolicy))
            self.ingress.follow(tuple(each for each in policies if type(each) is IngressPolicy))

    def rights(self, app: AppName) -> BothWays:
        """Those of one app; in each direction the same object as before where they are the same."""
        known = self._known.get(app)
        if known is None:
            known = self._known[app] = BothWays(self.egress.rights(app), self.ingress.rights(app))
        return known

    def forget(self, living: Collection[AppName]) -> None:
        """Drop what was worked out for apps that are gone, so that memory does not grow with every app that ever was."""
        self.egress.forget(living)
        self.ingress.forget(living)
        if self._known.keys() - living:
            self._known = {app: each for app, each in self._known.items() if app in living}


def is_meant(stranger: Stranger, outside: Cidrs | Hosts) -> bool:
    """Whether networks have an address, or patterns of names mean a name."""
    if isinstance(outside, Cidrs):
        return stranger in outside
    return isinstance(stranger, HostPattern) and outside.matches(stranger.name)


def rights_of(policies: Iterable[tuple[Opening, tuple[End, ...]]]) -> Rights:
    """Per protocol and range of ports one right with all networks, and one with all names; those of audits apart."""
    given = tuple(policies)
    firm = (each for each in given if not each[0].audit)
    return frozenset((*_united(firm, audit=False), *_united((each for each in given if each[0].audit), audit=True)))


def _united(policies: Iterable[tuple[Opening, tuple[End, ...]]], *, audit: bool) -> Iterator[OutsideRight]:
    ends: dict[int, End] = {}
    ranges: dict[tuple[int, str], set[Ports]] = {}  # by end and protocol
    for policy, found in policies:
        for end in found:
            ends[id(end)] = end
            for protocol in Protocol:
                if ports := policy.ports(protocol):
                    ranges.setdefault((id(end), protocol.value), set()).update(ports)
    by_ports: dict[tuple[str, Ports], list[End]] = {}
    for (number, kind), opened in ranges.items():
        for each in merged(opened):
            by_ports.setdefault((kind, each), []).append(ends[number])
    for (kind, opens), meant in by_ports.items():
        yield from _rights(kind, opens, meant, audit=audit)


def _rights(protocol: str, ports: Ports, ends: Iterable[End], *, audit: bool) -> Iterator[OutsideRight]:
    networks = [each for each in ends if isinstance(each, tuple)]
    names = {str(each) for each in ends if isinstance(each, HostPattern)}
    if networks:
        yield OutsideRight(protocol, ports.first, ports.last, networks=united(networks), audit=audit)
    if names:
        yield OutsideRight(protocol, ports.first, ports.last, names=tuple(sorted(names)), audit=audit)


def _ends_of(outside: Cidrs | Hosts) -> tuple[End, ...]:
    return (_one_of(outside.normal()),) if isinstance(outside, Cidrs) else tuple(map(_one_of, outside.names))


@lru_cache(MANY)
def _one_of(end: E) -> E:
    """The same object for equal ones: the ports that several policies open to one end are one list."""
    return end


def _fits(rights: Rights) -> bool:
    return len(rights) <= MOST_RIGHTS and sum(len(each.networks) + len(each.names) for each in rights) <= MOST_ENDS
