"""When leaves are renewed, for any life, name and run of bad luck."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.identity.renewal import LAST_RETRY, Renewal, due, due_at, next_wakeup
from ca.certificate import Validity, validity

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
FAR = NOW + 1000 * DAY

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
lives = st.builds(lambda life: validity(now=NOW, lifetime=life), st.timedeltas(timedelta(seconds=10), timedelta(days=90)))


def renewal(name: str = "web", *, lifetime: timedelta = DAY, issuer_ends: datetime = FAR) -> Renewal:
    return Renewal(name, validity(now=NOW, lifetime=lifetime), issuer_ends)


@given(name=names, valid=lives)
def test_a_leaf_is_due_after_its_birth_and_by_half_its_life(name: str, valid: Validity) -> None:
    at = due_at(valid, name=name)
    assert NOW < at <= valid.half()
    assert at - valid.not_before >= (valid.not_after - valid.not_before) * 0.45
    assert at == due_at(valid, name=name)


@given(name=names, valid=lives)
def test_a_leaf_whose_every_renewal_fails_is_tried_until_it_expires(name: str, valid: Validity) -> None:
    each, tries, last = Renewal(name, valid, FAR), 0, NOW
    while True:
        at = each.at(last)
        assert at is not None
        assert at > last
        assert at - last <= LAST_RETRY or tries == 0
        if at >= valid.not_after:
            break
        each, tries, last = each.failed(now=at), tries + 1, at
    assert tries >= 2
    assert valid.not_after - last <= 3 * SECOND, "the last attempt is just before the end"


@given(failures=st.integers(0, 10**6), name=names)
def test_after_expiry_it_goes_on_at_the_slowest_pace(failures: int, name: str) -> None:
    lost = replace(renewal(name), failures=failures, failed_at=NOW + 2 * DAY)
    at = lost.at(NOW + 2 * DAY)
    assert at is not None
    assert NOW + 2 * DAY < at <= NOW + 2 * DAY + LAST_RETRY


def test_retries_come_ever_later() -> None:
    each = renewal()
    waits = []
    now = due_at(each.valid, name="web")
    for _ in range(12):
        each = each.failed(now=now)
        at = each.at(now)
        assert at is not None
        waits.append(at - now)
        now = at
    assert waits == sorted(waits)
    assert waits[0] <= SECOND
    assert waits[-1] > timedelta(minutes=4)


def test_a_leaf_that_ends_with_its_issuer_waits_for_the_next_issuer() -> None:
    capped = renewal(issuer_ends=NOW + DAY)
    assert capped.at(NOW) is None
    assert next_wakeup([capped], now=NOW) is None
    assert due([capped], now=NOW + 2 * DAY) == ()
    assert due([replace(capped, issuer_ends=FAR)], now=NOW + 2 * DAY) == ("web",)


@given(name=names, valid=lives, back=st.timedeltas(SECOND, timedelta(days=400)))
def test_a_leaf_from_the_future_is_due_at_once_and_then_after_a_while(name: str, valid: Validity, back: timedelta) -> None:
    now = valid.not_before - back
    for issuer_ends in (FAR, valid.not_after):
        each = Renewal(name, valid, issuer_ends)
        assert due([each], now=now) == (name,)
        failed = each.failed(now=now)
        at = failed.at(now)
        assert at is not None
        assert now < at <= now + LAST_RETRY
    assert due([renewal(name).failed(now=FAR)], now=NOW + DAY) == (name,), "a failure of the future delays nothing"


def test_leaves_made_together_do_not_come_due_together() -> None:
    times = {due_at(validity(now=NOW, lifetime=DAY), name=f"web-{number}") for number in range(250)}
    assert len(times) == 250
    assert max(times) - min(times) > timedelta(minutes=30)


def test_the_one_that_expires_first_is_renewed_first() -> None:
    short, long = renewal("a", lifetime=DAY), renewal("b", lifetime=2 * DAY)
    assert due([long, short], now=NOW + 3 * DAY) == ("a", "b")
    assert due([long, short], now=NOW + 0.6 * DAY) == ("a",)
    assert due([long, short], now=NOW) == ()


@given(st.lists(st.builds(Renewal, names, lives, st.just(FAR)), max_size=5), st.timedeltas(timedelta(0), timedelta(days=100)))
def test_at_the_next_wakeup_something_is_due_and_before_it_nothing(renewals: list[Renewal], later: timedelta) -> None:
    now = NOW + later
    wakeup = next_wakeup(renewals, now=now)
    if wakeup is None:
        assert not renewals
        return
    assert wakeup >= now
    assert due(renewals, now=wakeup)
    if wakeup > now:
        assert due(renewals, now=wakeup - timedelta(microseconds=1)) == ()
