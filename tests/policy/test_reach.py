"""What an app may reach, against a slow and obvious oracle: over any changes of policies and apps."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.model.names import AppName
from agent.model.policy import ANY_PORT, AppPolicy, Origin, Pattern, Scope
from agent.policy.rights.reach import Reach
from tests.testlib.samples import app

APPS = [AppName(org, space, name) for org in ("acme", "zeta") for space in ("shop", "blog") for name in ("web", "api")]
PATTERNS = [Pattern(a.org, a.space, a.app) for a in APPS] + [
    Pattern(org, space, None) for org in ("acme", "zeta") for space in ("shop", "blog", None)
]
NOTHING = frozenset[AppName]()
WEB, DB, OTHER = app("web"), app("db"), AppName("zeta", "blog", "api")


def policy(source: Pattern | Scope, to: Pattern, *more: Pattern | Scope) -> AppPolicy:
    return AppPolicy("p", (source, *more), to, tcp=(ANY_PORT,), origin=Origin("f", 1, 1))


def exactly(name: AppName) -> Pattern:
    return Pattern(name.org, name.space, name.app)


POLICIES = st.builds(policy, st.sampled_from([*PATTERNS, *Scope]), st.sampled_from(PATTERNS), st.sampled_from(PATTERNS))
STATES = st.tuples(st.lists(POLICIES, max_size=6).map(tuple), st.frozensets(st.sampled_from(APPS)))


def means(source: Pattern | Scope, app: AppName, to: AppName) -> bool:
    match source:
        case Pattern():
            return source.matches(app)
        case Scope.SAME_SPACE:
            return (app.org, app.space) == (to.org, to.space)
        case Scope.SAME_ORG:
            return app.org == to.org


def oracle(policies: tuple[AppPolicy, ...], known: frozenset[AppName], source: AppName) -> set[AppName]:
    return {
        to
        for each in policies
        for to in APPS
        if each.to.matches(to) and (to in known or each.to.exact()) and any(means(one, source, to) for one in each.sources)
    }


@given(st.lists(STATES, min_size=1, max_size=5))
def test_what_is_reached_is_what_the_policies_say_whatever_was_before(
    states: list[tuple[tuple[AppPolicy, ...], frozenset[AppName]]],
) -> None:
    reach = Reach()
    for policies, known in states:
        reach.follow(policies, known=known)
        for source in APPS:
            assert reach.of(source) == oracle(policies, known, source)


def test_an_app_that_a_policy_spells_out_is_reached_before_it_ever_was_there() -> None:
    reach = Reach()
    reach.follow((policy(exactly(WEB), exactly(DB)), policy(exactly(WEB), exactly(OTHER))), known=NOTHING)
    assert reach.of(WEB) == {DB, OTHER}
    assert reach.of(DB) == set(), "a policy goes one way"


def test_a_scope_reaches_only_apps_that_are_known() -> None:
    reach, policies = Reach(), (policy(Scope.SAME_SPACE, Pattern("acme", None, None)),)
    reach.follow(policies, known=NOTHING)
    assert reach.of(WEB) == set()
    reach.follow(policies, known=frozenset({WEB, DB, app("acme/blog/api"), OTHER}))
    assert reach.of(WEB) == {WEB, DB}
    assert reach.of(app("acme/blog/new")) == {app("acme/blog/api")}


def test_what_two_policies_open_goes_with_the_last_of_them() -> None:
    reach, one = Reach(), policy(exactly(WEB), exactly(DB))
    two = replace(one, name="q")
    reach.follow((one, two), known=NOTHING)
    reach.follow((two,), known=NOTHING)
    assert reach.of(WEB) == {DB}
    reach.follow((), known=NOTHING)
    assert reach.of(WEB) == set()
