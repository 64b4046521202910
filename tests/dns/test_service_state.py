"""When an instance counts as served, and when it is looked at: by what looks find, and by nothing else."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.dns.service_state import FIRST_PAUSE, GRACE, LONGEST_PAUSE, Serving


def watched(*spans: tuple[bool, float]) -> list[tuple[float, bool]]:
    """The looks at an app that serves or not for so many seconds, one span after the other: when, and whether it is ready."""
    state, looks, start = Serving.begun(0.0), list[tuple[float, bool]](), 0.0
    for served, seconds in spans:
        while state.due < start + seconds:
            now = state.due
            state = state.after(served, now=now)
            looks.append((now, state.ready))
        start += seconds
    return looks


def test_an_app_that_serves_at_once_is_ready_at_the_first_look_and_seen_once_a_second_from_then_on() -> None:
    assert watched((True, 3.5)) == [(0.0, True), (1.0, True), (2.0, True), (3.0, True)]


def test_an_app_that_starts_is_looked_at_every_20_ms_and_a_slow_one_less_and_less_often() -> None:
    times = [at for at, ready in watched((False, 60.0)) if not ready]
    pauses = [round(later - at, 6) for at, later in itertools.pairwise(times)]
    assert pauses[:8] == pytest.approx([FIRST_PAUSE] * 8)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)
    assert len(times) < 130


def test_an_app_that_restarts_within_three_seconds_stays_ready() -> None:
    assert all(ready for _, ready in watched((True, 2.0), (False, 2.9), (True, 5.0), (False, 2.9), (True, 2.0)))


def test_an_app_that_is_gone_for_longer_leaves_and_comes_back_at_the_first_look_that_finds_it() -> None:
    looks = watched((True, 1.5), (False, 20.0), (True, 3.0))
    assert [ready for at, ready in looks if at < 2.0 + GRACE] == [True] * sum(at < 2.0 + GRACE for at, _ in looks)
    left = next(at for at, ready in looks if not ready)
    assert left == pytest.approx(2.0 + GRACE)
    assert looks[[at for at, _ in looks].index(left) + 1][0] == pytest.approx(left + FIRST_PAUSE)
    back = next(at for at, ready in looks if ready and at > left)
    assert 21.5 <= back <= 21.5 + LONGEST_PAUSE


@example([False, True, False, False, False, False, None, None, False])
@given(found=st.lists(st.sampled_from([True, False, None]), max_size=200))
def test_a_look_that_comes_to_nothing_changes_nothing_and_no_pause_is_longer_than_a_second(found: list[bool | None]) -> None:
    state = Serving.begun(0.0)
    for each in found:
        now, before = state.due, state
        state = state.unseen(now=now) if each is None else state.after(each, now=now)
        assert now + FIRST_PAUSE / 2 < state.due <= now + LONGEST_PAUSE + 1e-9
        if each is None:
            assert (state.ready, state.missed) == (before.ready, before.missed)
        if each:
            assert state.ready
