"""A policy with `until` ends by itself, stays ended whatever the clock does, and never begins again by a restart."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.config.problems import InvalidSource
from agent.errors import InvalidInput
from agent.model.policy import Policy
from agent.policy.endings import SLACK, Endings
from agent.policy.language.documents import document, made_up_name
from agent.policy.language.language import allowed, parse, parse_stored
from agent.policy.language.terms import LONGEST_NOTE, parse_end, parse_until
from tests.testlib.beds.policies import policies_in
from tests.testlib.disks import read_only, small_disk
from tests.testlib.fakes.store import MemoryStore

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FOR_EVER = allowed("acme/shop/web", "acme/shop/api", ["tcp/80"], name="for-ever")
TILL_ONE = allowed("acme/shop/web", "acme/shop/api", ["tcp/81"], name="till-one", until=NOON + HOUR)
TILL_TWO = allowed("acme/shop/web", "acme/shop/api", ["tcp/82"], name="till-two", until=NOON + 2 * HOUR)
ALL = (FOR_EVER, TILL_ONE, TILL_TWO)


class Hand:
    """A clock that is set."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now.timestamp()


def names(policies: tuple[Policy, ...]) -> str:
    return " ".join(each.name for each in policies)


def test_each_ends_at_its_moment_and_what_holds_is_the_same_object_between() -> None:
    clock = Hand()
    endings = Endings(Path("/none/latest-time"), now=clock)
    at_noon = endings.holding(ALL)
    assert names(at_noon) == "for-ever till-one till-two"
    clock.now = NOON + HOUR - timedelta(seconds=1)
    assert endings.holding(ALL) is at_noon
    clock.now = NOON + HOUR
    at_one = endings.holding(ALL)
    assert names(at_one) == "for-ever till-two"
    assert endings.holding(ALL) is at_one
    clock.now = NOON + 2 * HOUR
    assert names(endings.holding(ALL)) == "for-ever"
    assert names(endings.holding((TILL_TWO,))) == ""
    assert endings.holding((FOR_EVER,)) == (FOR_EVER,)


async def followed(endings: Endings, *, until: int) -> int:
    """The changes that its task announces, `until` so many have come."""
    changes, enough = 0, asyncio.Event()

    def changed() -> None:
        nonlocal changes
        changes += 1
        if changes == until:
            enough.set()

    task = asyncio.create_task(endings.run(changed))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            await enough.wait()
    await asyncio.sleep(0.1)  # for one too many, and until the time is kept
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return changes


async def test_an_end_is_announced_once_though_the_policy_came_while_nothing_was_to_end(tmp_path: Path) -> None:
    endings = Endings(tmp_path / "latest-time", now=lambda: datetime.now(UTC).timestamp())
    task = asyncio.create_task(followed(endings, until=1))
    await asyncio.sleep(0.05)
    soon = replace(TILL_ONE, until=datetime.now(UTC) + timedelta(seconds=0.3))
    assert endings.holding((FOR_EVER, soon)) == (FOR_EVER, soon)
    assert await task == 1
    assert endings.holding((FOR_EVER, soon)) == (FOR_EVER,)


async def test_one_that_has_ended_stays_ended_over_a_restart_with_a_clock_that_was_set_back(tmp_path: Path) -> None:
    clock, file = Hand(), tmp_path / "latest-time"
    endings = Endings(file, now=clock)
    endings.holding(ALL)
    clock.now = NOON + HOUR
    assert await followed(endings, until=1) == 1
    clock.now = NOON + HOUR - timedelta(seconds=SLACK / 2)
    again = Endings(file, now=clock)
    assert names(again.holding(ALL)) == "for-ever till-two", "a clock that is corrected a little brings nothing back"
    assert list(again.problems()) == []
    clock.now = NOON
    again = Endings(file, now=clock)
    assert names(again.holding(ALL)) == "for-ever", "nobody knows how late it is"
    (problem,) = again.problems()
    assert "the clock is behind 2030-01-01T13:00:0" in problem.what
    assert str(file) in problem.hint
    assert names(again.holding((FOR_EVER,))) == "for-ever"
    assert list(again.problems()) == [], "of nothing that would end"
    again.holding(ALL)
    clock.now = NOON + HOUR
    assert names(again.holding(ALL)) == "for-ever till-two"
    assert list(again.problems()) == []


async def test_a_clock_that_is_set_back_and_right_again_is_announced_both_times(tmp_path: Path) -> None:
    clock = Hand(NOON + HOUR)
    endings = Endings(tmp_path / "latest-time", now=clock)
    endings.holding(ALL)
    clock.now = NOON
    assert await followed(endings, until=1) == 1
    assert names(endings.holding(ALL)) == "for-ever"
    clock.now = NOON + HOUR
    assert await followed(endings, until=1) == 1
    assert names(endings.holding(ALL)) == "for-ever till-two"


async def test_a_time_that_cannot_be_kept_is_reported_and_the_end_takes_place(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=64k") as disk, read_only(disk):
        clock = Hand()
        endings = Endings(disk / "latest-time", now=clock)
        endings.holding(ALL)
        clock.now = NOON + HOUR
        assert await followed(endings, until=1) == 1
    assert names(endings.holding(ALL)) == "for-ever till-two"
    (problem,) = endings.problems()
    assert "cannot be kept" in problem.what


@pytest.mark.parametrize("text", ["noon", "", "nan", "inf", "-inf", "-1", "1e300", "253402300801", "9" * 400])
def test_a_file_that_makes_no_sense_is_reported_and_ends_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "latest-time").write_text(text)
    endings = Endings(tmp_path / "latest-time", now=Hand())
    assert endings.holding(ALL) == ALL
    (problem,) = endings.problems()
    assert "cannot be read" in problem.what
    assert problem.hint


async def test_the_list_keeps_what_has_ended_and_what_is_in_force_does_not(tmp_path: Path) -> None:
    store, clock = MemoryStore(), Hand()
    policies = policies_in(tmp_path, store, now=clock)
    for each in ALL:
        await policies.apply(document(each), writer=None)
    assert len(await policies.in_force()) == 3
    clock.now = NOON + HOUR
    assert names(await policies.in_force()) == "for-ever till-two"
    assert names(await policies.written()) == "for-ever till-one till-two"
    rows = await policies.rows()
    assert "ended=1" in str(rows["policies"])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2030-01-01T13:00Z", NOON + HOUR),
        ("2030-01-01T13:00:30Z", NOON + HOUR + timedelta(seconds=30)),
        ("2030-01-01T14:00+01:00", NOON + HOUR),
        ("2030-01-01T08:30-03:30", NOON),
    ],
)
def test_a_moment_has_a_day_a_time_and_a_zone(text: str, meant: datetime) -> None:
    assert parse_until(text) == meant
    content = f"policies: [{{from: a/b/c, to: a/b/d, tcp: 1, until: {text}, note: why not}}]"
    (policy,) = parse(content.encode(), source="f.yaml")
    assert (policy.until, policy.note) == (meant, "why not")


def test_a_span_is_no_shorter_than_was_asked_for() -> None:
    end = parse_end("2h", now=NOON + timedelta(microseconds=900))
    assert NOON + 2 * HOUR < end <= NOON + 2 * HOUR + timedelta(seconds=1)
    assert parse_end("2030-01-01T13:00Z", now=NOON) == NOON + HOUR


@pytest.mark.parametrize("text", ["", "tomorrow", "2h30m", "-2h", "2030-01-01", "2030-02-30T10:00Z", "0001-01-01T00:00+05:00"])
def test_what_is_neither_a_moment_nor_a_span_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_end(text, now=NOON)
    assert caught.value.hint


def test_the_same_right_with_another_end_has_the_same_name_and_so_takes_its_place() -> None:
    longer = replace(TILL_ONE, until=NOON + 5 * HOUR, note="the migration takes longer")
    assert made_up_name(longer) == made_up_name(TILL_ONE) == made_up_name(replace(TILL_ONE, until=None))
    assert parse_stored("till-one", document(longer)).note == "the migration takes longer"


def test_a_long_note_is_refused() -> None:
    with pytest.raises(InvalidSource, match=f"{LONGEST_NOTE + 1} characters"):
        parse(f"policies: [{{from: a/b/c, to: a/b/d, tcp: 1, note: {'x' * (LONGEST_NOTE + 1)}}}]".encode(), source="f.yaml")
