"""Validity, for any clock and any lifetime: nothing outlives its issuer, and nothing is born past half its life."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.authority import Authority, make_root
from ca.certificate import LARGEST_SKEW, Validity, validity
from ca.errors import CaRefused
from ca.leaf import issue_leaf
from ca.pem import certificates
from tests.testlib.certificates import identity, make_ca

clocks = st.datetimes(datetime(2020, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC))
lifetimes = st.timedeltas(timedelta(seconds=1), timedelta(days=400))
SECOND = timedelta(seconds=1)


@given(now=clocks, lifetime=lifetimes, issuer_lifetime=lifetimes)
def test_a_certificate_stays_within_its_issuers_life(now: datetime, lifetime: timedelta, issuer_lifetime: timedelta) -> None:
    issuer = validity(now=now, lifetime=issuer_lifetime)
    mine = validity(now=now, lifetime=lifetime, within=issuer)
    assert issuer.not_before <= mine.not_before <= now
    assert now - SECOND < mine.not_after <= min(issuer.not_after, now + lifetime)


@given(now=clocks, lifetime=lifetimes)
def test_a_certificate_is_backdated_but_never_born_past_half_its_life(now: datetime, lifetime: timedelta) -> None:
    mine = validity(now=now, lifetime=lifetime)
    assert now - LARGEST_SKEW - 2 * SECOND <= mine.not_before <= now
    assert mine.half() > now.replace(microsecond=0) or lifetime < 5 * SECOND
    assert mine.not_before.microsecond == mine.not_after.microsecond == 0


@given(at=st.timedeltas(timedelta(0), timedelta(days=30)), lifetime=lifetimes)
def test_a_real_leaf_never_outlives_its_issuer_nor_the_root(at: timedelta, lifetime: timedelta) -> None:
    born = datetime(2026, 1, 1, tzinfo=UTC)
    ours = make_ca(now=born, root_days=20, cell_days=30)
    if born + at >= ours.cell.valid.not_after:
        with pytest.raises(CaRefused):
            ours.leaf(identity(), now=born + at, lifetime=lifetime)
        return
    chain = certificates(ours.leaf(identity(), now=born + at, lifetime=lifetime).chain, where="the leaf")
    spans = [Validity.of(each) for each in (*chain, ours.root.certificate)]
    assert spans[0].not_after <= spans[1].not_after <= spans[2].not_after
    assert spans[0].not_before >= spans[1].not_before >= spans[2].not_before


def test_less_than_a_second_is_refused() -> None:
    with pytest.raises(CaRefused, match="less than a second"):
        validity(now=datetime(2026, 1, 1, tzinfo=UTC), lifetime=timedelta(milliseconds=500))


def test_a_certificate_made_in_its_issuers_first_second_is_not_backdated_before_it() -> None:
    issuer = validity(now=datetime(2026, 1, 1, tzinfo=UTC), lifetime=timedelta(days=90))
    assert validity(now=issuer.not_before, lifetime=timedelta(days=1), within=issuer).not_before == issuer.not_before


def test_an_intermediate_that_was_made_to_outlive_its_root_signs_nothing_that_does() -> None:
    born = datetime(2026, 1, 1, tzinfo=UTC)
    ours = make_ca(now=born)
    short = make_root(trust_domain="cell.internal", now=born, lifetime=timedelta(days=10), key=ours.root.key)
    leaf = issue_leaf(
        Authority((ours.cell.certificate, short.certificate), ours.cell.key),
        identity=identity(),
        now=born,
        lifetime=timedelta(days=30),
    )
    assert Validity.of(certificates(leaf.chain, where="the leaf")[0]).not_after == born + timedelta(days=10)
