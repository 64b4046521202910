"""Who may reach whom, spelled out app by app, and what another set of policies would change of it. Pure.

Patterns and scopes are given as the apps that they mean; ends outside stay as they are written.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent.errors import InvalidInput
from agent.model.names import AppName
from agent.model.outside import Cidrs, Hosts
from agent.model.policy import AppPolicy, EgressPolicy, IngressPolicy, Pattern, Policy, Ports, Protocol, Scope
from agent.policy.language.ports import merged, without
from agent.policy.rights.index import Parts, parts_of
from agent.policy.rights.resolve import meant

MOST_LOOKED_AT = 100_000_000  # pairs, of half a minute: beyond that the answer would come too late, and a thread would go on

Ends = tuple[str, str]
Opened = Mapping[Protocol, tuple[Ports, ...]]


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """`source` may reach `to` on `ports` (tcp/8080), in an `audit` alone. Ends are apps, or what is written of the outside."""

    source: str
    to: str
    ports: tuple[str, ...]
    audit: bool = False


class Roll:
    """The known apps, by what a pattern may mean."""

    def __init__(self, apps: Iterable[AppName]) -> None:
        self._meant: dict[Parts, list[AppName]] = defaultdict(list)
        for app in sorted(set(apps)):
            for parts in parts_of(app):
                self._meant[parts].append(app)

    def of(self, pattern: Pattern) -> list[AppName]:
        """Those that a pattern means; the one that it spells out, known or not."""
        exact = pattern.exact()
        return [exact] if exact is not None else self._meant.get((pattern.org, pattern.space, pattern.app), [])

    def ends(self, policy: Policy) -> Iterator[Ends]:
        """The two ends of each connection that a policy speaks of."""
        match policy:
            case AppPolicy():
                for to in self.of(policy.to):
                    for source in dict.fromkeys(app for each in policy.sources for app in self.of(meant(each, to=to))):
                        yield str(source), str(to)
            case EgressPolicy():
                for source in dict.fromkeys(app for each in policy.sources for app in self.of(each)):
                    yield str(source), outside_in_words(policy.to)
            case IngressPolicy():
                for to in self.of(policy.to):
                    yield outside_in_words(policy.sources), str(to)


def speaks_of(policy: Policy, app: AppName) -> bool:
    """Whether an app is at one of its ends."""
    if isinstance(policy.to, Pattern) and policy.to.matches(app):
        return True
    match policy:
        case AppPolicy():
            return any(_means(each, app, to=policy.to) for each in policy.sources)
        case EgressPolicy():
            return any(each.matches(app) for each in policy.sources)
        case IngressPolicy():
            return False


def _means(source: Pattern | Scope, app: AppName, *, to: Pattern) -> bool:
    """Whether an app is among the sources for some app of the destination."""
    match source:
        case Pattern():
            return source.matches(app)
        case Scope.SAME_SPACE:
            return app.org == to.org and to.space in (None, app.space)
        case Scope.SAME_ORG:
            return app.org == to.org


def outside_in_words(end: Cidrs | Hosts) -> str:
    """`192.0.2.0/24, 198.51.100.7/32 except 192.0.2.9/32`, `api.example.com`."""
    if isinstance(end, Hosts):
        return ", ".join(map(str, end.names))
    without = f" except {', '.join(map(str, end.excepted))}" if end.excepted else ""
    return ", ".join(map(str, end.networks)) + without


def edges(
    policies: Iterable[Policy], roll: Roll, *, wanted: Callable[[Ends], bool] = lambda _ends: True
) -> Mapping[Ends, Opened]:
    """All that policies open, by ends; of those that are `wanted`. Raises InvalidInput where there are too many to look at."""
    left = MOST_LOOKED_AT
    found: dict[Ends, dict[Protocol, set[Ports]]] = defaultdict(lambda: defaultdict(set))
    for policy in policies:
        opened = {each: ports for each in Protocol if (ports := policy.ports(each))}
        for ends in roll.ends(policy):
            left -= 1
            if left < 0:
                raise InvalidInput(f"more than {MOST_LOOKED_AT:,} pairs of apps are meant", hint="name fewer by stars at once")
            if wanted(ends):
                for protocol, ports in opened.items():
                    found[ends][protocol].update(ports)
    return {ends: {each: merged(ports) for each, ports in opened.items()} for ends, opened in found.items()}


def in_words(opened: Opened) -> tuple[str, ...]:
    """`tcp/8080`, `udp/any`, `icmp/echo`."""
    return tuple(f"{protocol.value}/{ports}" for protocol in Protocol for ports in opened.get(protocol, ()))


@dataclass(frozen=True, slots=True)
class Passing:
    """What passes between ends: what is `opened`, and what passes by an audit alone."""

    opened: Mapping[Ends, Opened]
    audited: Mapping[Ends, Opened]

    def beyond(self, other: "Passing") -> tuple[Edge, ...]:
        """What passes here and does not there, or in an audit here and not in one there, or the other way round."""
        kinds = ((self.opened, other.opened, False), (self.audited, other.audited, True))
        return tuple(sorted(edge for here, there, audit in kinds for edge in _gained(here, there, audit=audit)))


def passing(policies: Collection[Policy], roll: Roll, *, wanted: Callable[[Ends], bool] = lambda _ends: True) -> Passing:
    """By policies in force, between ends that are `wanted`."""
    opened = edges((each for each in policies if not each.audit), roll, wanted=wanted)
    found = edges((each for each in policies if each.audit), roll, wanted=wanted)
    return Passing(opened, {ends: more for ends, ports in found.items() if (more := _more(ports, opened.get(ends, {})))})


def _gained(after: Mapping[Ends, Opened], before: Mapping[Ends, Opened], *, audit: bool) -> Iterator[Edge]:
    for ends, opened in after.items():
        if more := _more(opened, before.get(ends, {})):
            yield Edge(*ends, in_words(more), audit)


def _more(opened: Opened, held: Opened) -> Opened:
    return {each: ports for each, all_ in opened.items() if (ports := without(all_, held.get(each, ())))}


def matrix(policies: Collection[Policy], roll: Roll, *, app: AppName | None) -> tuple[Edge, ...]:
    """All edges, or those of one app."""
    name = None if app is None else str(app)
    return passing(policies, roll, wanted=lambda ends: name is None or name in ends).beyond(Passing({}, {}))
