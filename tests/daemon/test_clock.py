"""The clock is set: moments of the past keep their distance, and what must rest for a week rests for a week."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.daemon.clock import Clock
from agent.errors import Conflict
from agent.model.names import AppName
from agent.policy.tags_in_use import TagsInUse
from tests.testlib.fakes.store import MemoryStore

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR, DAY = 3600.0, 24 * 3600.0
WEEK = 7 * DAY
jumps = st.sampled_from([HOUR, -HOUR, DAY, -DAY, 30 * DAY, -30 * DAY])


@dataclass
class World:
    """What passes, and what the clock has been set forward by."""

    passed: float = 0.0
    set_by: float = 0.0

    def clock(self) -> Clock:
        return Clock(now=lambda: NOON + timedelta(seconds=self.passed + self.set_by), elapsed=lambda: self.passed)


def test_a_moment_is_called_what_the_clock_calls_it_now() -> None:
    world = World()
    clock = world.clock()
    moment = clock.elapsed()
    world.passed = 60.0
    for world.set_by in (0.0, DAY, -DAY):
        assert clock.now() - clock.called(moment) == timedelta(minutes=1)


@given(st.lists(st.tuples(st.floats(0, DAY), jumps), max_size=20), st.integers(0, 20))
async def test_no_jump_of_the_clock_lets_a_tag_pass_on_before_its_week_is_over(
    steps: list[tuple[float, float]], when: int
) -> None:
    world, store = World(), MemoryStore(last_tag=1)
    earliest, latest = world.clock().bounds()
    tagging = TagsInUse(store, earliest=earliest, latest=latest)
    old, new = AppName("acme", "shop", "old"), AppName("acme", "shop", "new")
    await tagging.claim(old)
    released = None
    for number, (passed, jump) in enumerate([*steps, (2 * WEEK, 0.0), (2 * WEEK, 0.0)]):
        world.passed += passed
        world.set_by += jump
        if number >= min(when, len(steps)) and released is None:
            await tagging.follow((), ())
            released = world.passed
        if released is None or world.passed - released < WEEK:
            with pytest.raises(Conflict):
                await tagging.claim(new)
