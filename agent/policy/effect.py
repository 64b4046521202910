"""What a change of policies would do: which policies come and go, who may reach whom afterwards and not before, and what is odd
about those that come.
"""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from itertools import chain, islice

from agent.model.names import AppName
from agent.model.policy import Policy, spelled_out
from agent.policy.oddities import oddities
from agent.policy.rights.edges import Edge, Roll, passing

MOST = 10_000  # pairs of apps that are compared
COUNTED = 200_000  # that are counted: a star for each of ten thousand apps would fill all memory


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
    touched = dict.fromkeys(islice(chain.from_iterable(roll.ends(each) for each in (*removed, *added)), COUNTED))
    only = frozenset(list(touched)[:MOST])
    was, will = (passing(each, roll, wanted=only.__contains__) for each in (before, after))
    odd = tuple(dict.fromkeys(each.what for each in oddities(added, after, known=known)))
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
