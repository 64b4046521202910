"""A change among many policies costs what has changed; the outcome is as if all had been looked at."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from agent.model.names import AppName
from agent.model.policy import AppPolicy, Origin, Pattern, Ports
from agent.policy.difference import difference
from agent.policy.rights.index import FEW, PolicyIndex

APPS = [AppName("acme", "shop", f"app{number}") for number in range(FEW + 4)]


def policy(line: int, to: int) -> AppPolicy:
    """One whose place is `line`, so that no two of a file are equal."""
    target = Pattern("acme", "shop", None) if to == 0 else Pattern("acme", "shop", APPS[to].app)
    return AppPolicy(
        f"p{line}", (Pattern("acme", "shop", "web"),), target, tcp=(Ports(80, 80),), origin=Origin("file", line, 1)
    )


def policies(lines: Iterable[tuple[int, int]]) -> tuple[AppPolicy, ...]:
    """New objects, though what they say may be as before."""
    return tuple(policy(line, to) for line, to in lines)


LINES = st.lists(st.tuples(st.integers(0, 1), st.just(1)), max_size=8)  # so few that some are there twice
STRETCH = st.lists(st.integers(0, FEW + 3), max_size=3)


@given(LINES, LINES)
def test_what_is_removed_and_added_makes_the_one_of_the_other(old: list[tuple[int, int]], new: list[tuple[int, int]]) -> None:
    before, after = policies(old), policies(new)
    found = difference(before, after)
    end = found.place + len(found.removed)
    assert before[found.place : end] == found.removed
    assert (*before[: found.place], *found.added, *before[end:]) == after


def test_only_the_stretch_that_differs_is_named() -> None:
    lines = [(line, 1) for line in range(100)]
    found = difference(policies(lines), policies([*lines[:40], (40, 2), *lines[42:]]))
    assert (found.place, [each.origin.line for each in found.removed]) == (40, [40, 41])
    assert [each.to.app for each in found.added] == ["app2"]


@given(st.lists(st.integers(0, FEW + 3), max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), STRETCH)))
def test_an_index_that_has_followed_changes_is_as_one_made_anew(
    first: list[int], edits: list[tuple[int, int, list[int]]]
) -> None:
    lines = list(enumerate(first))
    index = PolicyIndex(lambda each: (each.to,), policies(lines))
    for number, (place, removed, added) in enumerate(edits, start=1):
        lines[place : place + removed] = [(100 * number + line, to) for line, to in enumerate(added)]
        now = policies(lines)
        index.follow(now)
        for app in APPS:
            assert list(index.concerning(app)) == [
                *(each for each in now if each.to.app == app.app),
                *(each for each in now if each.to.app is None),
            ]
