"""What a change of policies would do: which policies come and go, who may reach whom afterwards and not before, and what is odd
about those that come.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import chain

from agent.model.names import AppName
from agent.model.outside import Cidrs, Hosts
from agent.model.policy import AppPolicy, EgressPolicy, IngressPolicy, Pattern, Policy, Protocol, Scope, spelled_out
from agent.policy.edges import Edge, Roll, passing
from agent.policy.mistaken_names import notices
from agent.policy.ports import without

MOST = 10_000  # pairs of apps that are compared


@dataclass(frozen=True, slots=True)
class Effect:
    """`more` pairs were not compared, as they are too many. Policies are in the order in which they are written."""

    added: tuple[Policy, ...]
    removed: tuple[Policy, ...]
    opens: tuple[Edge, ...]
    closes: tuple[Edge, ...]
    notices: tuple[str, ...]
    more: int = 0


def effect(before: tuple[Policy, ...], after: tuple[Policy, ...], *, known: Set[AppName]) -> Effect:
    """Of policies in force now and then; `known` are the apps that a star or a scope may mean."""
    added, removed = _only_in(after, before), _only_in(before, after)
    named = {AppName(*parts) for parts in spelled_out((*added, *removed))}
    roll = Roll(known | named)
    touched = dict.fromkeys(chain.from_iterable(roll.ends(each) for each in (*removed, *added)))
    only = frozenset(list(touched)[:MOST])
    was, will = (passing(each, roll, wanted=only.__contains__) for each in (before, after))
    odd = tuple(_odd(added, after, known=known))
    return Effect(added, removed, will.beyond(was), was.beyond(will), odd, more=len(touched) - len(only))


def _only_in(these: tuple[Policy, ...], those: tuple[Policy, ...]) -> tuple[Policy, ...]:
    """Of `these` what `those` have not: by what is written, not by where."""
    held = Counter(map(_words, those))
    found = []
    for each in these:
        if held[_words(each)]:
            held[_words(each)] -= 1
        else:
            found.append(each)
    return tuple(found)


def _words(policy: Policy) -> tuple[object, ...]:
    opening = policy.tcp, policy.udp, policy.icmp, policy.audit, policy.until, policy.note
    return (type(policy), policy.name if not policy.origin.line else policy.origin.source, policy.sources, policy.to, *opening)


def _odd(added: tuple[Policy, ...], after: tuple[Policy, ...], *, known: Set[AppName]) -> Iterator[str]:
    """Names that nothing has, names given twice, and what another policy says already."""
    yield from notices(chain.from_iterable(map(_patterns, added)), named=known)
    held, by_end = Counter(each.name for each in after), defaultdict[object, list[Policy]](list)
    for each in after:
        by_end[each.to].append(each)
    for each in added:
        if held[each.name] > 1:
            yield f"{held[each.name]} policies are called {each.name}"
        near = chain.from_iterable(by_end[end] for end in _wider_ends(each.to))
        wider = next((other for other in near if other is not each and covers(other, each)), None)
        if wider is not None:
            yield f"{each.name} allows nothing that {wider.name} ({wider.origin}) does not allow"


def _wider_ends(end: Pattern | Cidrs | Hosts) -> Iterator[object]:
    """The destinations that mean all that one means."""
    yield end
    if isinstance(end, Pattern):
        yield from {Pattern(end.org, end.space, None), Pattern(end.org, None, None)} - {end}


def _patterns(policy: Policy) -> tuple[Pattern, ...]:
    ends = (*(policy.sources if isinstance(policy.sources, tuple) else ()), policy.to)
    return tuple(each for each in ends if isinstance(each, Pattern))


def covers(wider: Policy, policy: Policy) -> bool:
    """Whether `wider` allows for as long all that `policy` allows; never of one whose ends outside are written otherwise."""
    if wider.audit and not policy.audit:
        return False
    if wider.until is not None and (policy.until is None or wider.until < policy.until):
        return False
    if any(without(policy.ports(each), wider.ports(each)) for each in Protocol):
        return False
    match wider, policy:
        case AppPolicy(), AppPolicy():
            has = all(any(_source_in(each, held, policy.to) for held in wider.sources) for each in policy.sources)
            return has and _holds(wider.to, policy.to)
        case EgressPolicy(), EgressPolicy():
            has = all(any(_holds(held, each) for held in wider.sources) for each in policy.sources)
            return has and wider.to == policy.to
        case IngressPolicy(), IngressPolicy():
            return wider.sources == policy.sources and _holds(wider.to, policy.to)
        case _:
            return False


def _source_in(source: Pattern | Scope, wider: Pattern | Scope, to: Pattern) -> bool:
    """Whether one source of a policy to `to` is among those that another means, whichever app of `to` is called."""
    if source == wider:
        return True
    match source, wider:
        case Scope.SAME_SPACE, Scope.SAME_ORG:
            return True
        case Pattern(), Pattern():
            return _holds(wider, source)
        case Pattern(), Scope():
            inside = Pattern(to.org, to.space if wider is Scope.SAME_SPACE else None, None)
            return (wider is Scope.SAME_ORG or to.space is not None) and _holds(inside, source)
        case Scope(), Pattern():
            return _holds(wider, Pattern(to.org, to.space if source is Scope.SAME_SPACE else None, None))
    return False


def _holds(wider: Pattern, pattern: Pattern) -> bool:
    """Whether it means all apps that the other means."""
    return wider.org == pattern.org and wider.space in (None, pattern.space) and wider.app in (None, pattern.app)
