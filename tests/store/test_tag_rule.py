"""The rule of tags under any history: the properties that packets depend on."""

from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Conflict
from agent.model.names import AppName
from agent.store.tags import REST, TagClaim, applied, claim, in_use, release
from tests.testlib.samples import app

APPS = [app(name) for name in "abcdef"]
LAST = 4
steps = st.lists(
    st.tuples(st.booleans(), st.sets(st.sampled_from(APPS), max_size=3), st.floats(min_value=0, max_value=REST * 0.6))
)


@given(steps)
def test_no_number_means_two_apps_nor_passes_on_within_a_week_in_any_history(
    steps: list[tuple[bool, set[AppName], float]],
) -> None:
    claims: dict[AppName, TagClaim] = {}
    meant: dict[int, tuple[AppName, float]] = {}  # tag -> the app that last had it, and when
    now = 1_000_000.0
    for is_claim, apps, passed in steps:
        now += passed
        for name, tag in in_use(claims).items():
            meant[tag] = (name, now)
        before = dict(claims)
        try:
            changes = claim(claims, apps, now=now, last=LAST) if is_claim else release(claims, apps, now=now)
        except Conflict:
            bound = {name for name, each in before.items() if each.released is None or now - each.released < REST}
            assert len(bound | apps) > LAST
            assert claims == before
            continue
        claims = applied(claims, changes)
        held = in_use(claims)
        assert not is_claim or apps <= held.keys()
        assert len({each.tag for each in claims.values()}) == len(claims)
        assert all(1 <= tag <= LAST for tag in held.values())
        for name, tag in held.items():
            before_that, when = meant.get(tag, (name, now))
            assert before_that == name or now - when >= REST


@given(st.sets(st.sampled_from(APPS), max_size=4))
def test_apps_that_keep_their_tags_are_not_moved_by_newcomers(apps: set[AppName]) -> None:
    first = applied({}, claim({}, APPS[:2], now=0.0))
    assert in_use(first).items() <= in_use(applied(first, claim(first, apps, now=1.0))).items()
