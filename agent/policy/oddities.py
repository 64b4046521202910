"""What is odd about policies though each by itself is right: a name that no app has, a name of two policies, and what another
policy says already. Pure.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import Final

from agent.model.names import AppName
from agent.model.outside import Cidrs, Hosts
from agent.model.policy import AppPolicy, EgressPolicy, IngressPolicy, Origin, Pattern, Policy, Protocol, Scope
from agent.policy.language.ports import without
from agent.policy.mistaken_names import notices

# A reader may ask, so that both are bounds of a few seconds
COMPARED: Final = 200_000  # pairs of policies, and of eight of their sources each
JUDGED: Final = 400_000  # pairs of a name that is no app's and an app that it may be meant for


@dataclass(frozen=True, slots=True)
class Oddity:
    """What is odd about one policy, and where that is written."""

    origin: Origin
    what: str


def oddities(policies: Sequence[Policy], among: Iterable[Policy], *, known: Set[AppName] | None) -> Iterator[Oddity]:
    """Of `policies`, which are among all that are written. `known` are the apps there are; without them no name is judged."""
    by_end, by_name = defaultdict[object, list[Policy]](list), defaultdict[str, list[Policy]](list)
    for each in among:
        by_end[each.to].append(each)
        by_name[each.name].append(each)
    left, judge = COMPARED, _judge(known) if known is not None else lambda _policy: ()
    for each in policies:
        yield from (Oddity(each.origin, what) for what in judge(each))
        twin = next((other for other in by_name[each.name] if other is not each), None)
        if twin is not None:
            yield Oddity(each.origin, f"{each.name} is the name of another policy, too ({twin.origin})")
        for other in chain.from_iterable(by_end[end] for end in _wider_ends(each.to)):
            left -= 1 + _sources(each) * _sources(other) // 8
            if left < 0:
                break
            if other is not each and covers(other, each):
                yield Oddity(each.origin, f"{each.name} allows nothing that {other.name} ({other.origin}) does not allow")
                break


def _judge(known: Set[AppName]) -> Callable[[Policy], Iterable[str]]:
    """Which of a policy's names no app has, as long as not too many were looked for."""
    found: dict[Pattern, tuple[str, ...]] = {}
    most = JUDGED // max(len(known), 1)

    def judge(policy: Policy) -> Iterator[str]:
        for pattern in dict.fromkeys(each for each in _patterns(policy) if each.exact() not in known):
            if pattern not in found and len(found) < most:
                found[pattern] = notices([pattern], named=known)
            yield from found.get(pattern, ())

    return judge


def _sources(policy: Policy) -> int:
    return len(policy.sources) if isinstance(policy.sources, tuple) else 1


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
