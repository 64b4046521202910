"""Resolving against a slow and obvious oracle, and what a caller may rely on when nothing changed."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from agent.model.names import AppName
from agent.model.policy import ANY_PORT, AppPolicy, Origin, Pattern, Ports, Protocol, Scope
from agent.policy.language.ports import merged
from agent.policy.rights.resolve import MOST_RIGHTS, PolicyResolver
from dataplane.state import Allow

APPS = [AppName(org, space, app) for org in ("acme", "zeta") for space in ("shop", "blog") for app in ("web", "api", "db")]
PATTERNS = [Pattern(a.org, a.space, a.app) for a in APPS] + [
    Pattern(org, space, None) for org in ("acme", "zeta") for space in ("shop", "blog", None)
]
RANGES = st.builds(lambda a, b: Ports(min(a, b), max(a, b)), st.integers(1, 12), st.integers(1, 12)) | st.just(ANY_PORT)
PORTS = st.lists(RANGES, max_size=3).map(merged)


@st.composite
def policies(draw: st.DrawFn) -> AppPolicy:
    sources = draw(st.lists(st.sampled_from([*PATTERNS, *Scope]), min_size=1, max_size=3))
    name = f"p{draw(st.integers(0, 99))}"
    return AppPolicy(
        name, tuple(sources), draw(st.sampled_from(PATTERNS)), tcp=draw(PORTS), udp=draw(PORTS), origin=Origin("f", 1, 1)
    )


TAGS = st.dictionaries(st.sampled_from(APPS), st.integers(1, 65535), max_size=len(APPS))


def means(source: Pattern | Scope, app: AppName, to: AppName) -> bool:
    if source is Scope.SAME_SPACE:
        return (app.org, app.space) == (to.org, to.space)
    if source is Scope.SAME_ORG:
        return app.org == to.org
    assert isinstance(source, Pattern)
    return source.matches(app)


def allowed_by(policy: AppPolicy, source: AppName, to: AppName, protocol: Protocol, port: int) -> bool:
    ports = policy.ports(protocol)
    return (
        policy.to.matches(to)
        and any(means(each, source, to) for each in policy.sources)
        and any(each.first <= port <= each.last for each in ports)
    )


def oracle(found: tuple[AppPolicy, ...], tags: Mapping[AppName, int], to: AppName) -> set[tuple[int, str, int]]:
    """Every (tag, protocol, port) that is allowed, on the ports that matter."""
    return {
        (tag, protocol.value, port)
        for source, tag in tags.items()
        for protocol in Protocol
        for port in (*range(14), 65535)
        if any(allowed_by(policy, source, to, protocol, port) for policy in found)
    }


def spelled_out(allows: frozenset[Allow], groups: Mapping[str, frozenset[int]]) -> set[tuple[int, str, int]]:
    return {
        (tag, a.protocol, port)
        for a in allows
        for tag in (groups.get(a.group, frozenset()) if a.group else {a.tag})
        for port in (*range(14), 65535)
        if a.first <= port <= a.last
    }


@given(st.lists(policies(), max_size=6).map(tuple), TAGS, st.sampled_from(APPS))
def test_what_is_resolved_is_what_the_policies_say(found: tuple[AppPolicy, ...], tags: dict[AppName, int], to: AppName) -> None:
    resolver = PolicyResolver()
    resolver.update(found, tags)
    allows = resolver.allows(to)
    assert spelled_out(allows, resolver.groups()) == oracle(found, tags, to)
    for one in allows:
        neighbours = [a for a in allows if a != one and (a.tag, a.group, a.protocol) == (one.tag, one.group, one.protocol)]
        assert all(a.last + 1 < one.first or one.last + 1 < a.first for a in neighbours), "ranges that could be one"


@given(st.lists(policies(), max_size=6).map(tuple), st.sampled_from(APPS), st.sampled_from(APPS), st.sampled_from(Protocol))
def test_check_agrees_with_the_policies(found: tuple[AppPolicy, ...], source: AppName, to: AppName, protocol: Protocol) -> None:
    resolver = PolicyResolver()
    resolver.update(found, {})
    for port in (1, 5, 12, 13, 65535):
        answer = resolver.check(source, to, protocol=protocol, port=port)
        assert (answer is not None) == any(allowed_by(each, source, to, protocol, port) for each in found)
        assert answer is None or allowed_by(answer, source, to, protocol, port)


@given(st.lists(st.tuples(st.lists(policies(), max_size=4).map(tuple), TAGS), min_size=1, max_size=5))
def test_a_resolver_that_saw_many_states_answers_like_a_fresh_one(
    states: list[tuple[tuple[AppPolicy, ...], dict[AppName, int]]],
) -> None:
    old = PolicyResolver()
    for found, tags in states:
        fresh = PolicyResolver()
        fresh.update(found, tags)
        old.update(found, tags)
        for to in APPS:
            assert old.allows(to) == fresh.allows(to)


def rule(*sources: Pattern | Scope, to: Pattern, line: int = 1) -> AppPolicy:
    return AppPolicy("p", sources, to, tcp=(Ports(80, 80),), origin=Origin("f", line, 1))


WEB, API = AppName("acme", "shop", "web"), AppName("acme", "shop", "api")
TO_API = Pattern("acme", "shop", "api")


def test_an_answer_that_did_not_change_is_the_same_object() -> None:
    resolver = PolicyResolver()
    resolver.update((rule(Scope.SAME_SPACE, to=TO_API),), {WEB: 1, API: 2})
    first = resolver.allows(API)
    resolver.update((rule(Scope.SAME_SPACE, to=TO_API, line=9),), {WEB: 1, API: 2, AppName("zeta", "blog", "web"): 3})
    assert resolver.allows(API) is first
    assert first == {Allow(0, "tcp", 80, 80, "acme/shop/*")}


def test_a_scope_takes_in_an_app_that_becomes_known_and_drops_one_that_goes() -> None:
    resolver = PolicyResolver()
    policies = (rule(Scope.SAME_SPACE, to=TO_API),)
    resolver.update(policies, {API: 2})
    right = resolver.allows(API)
    assert resolver.groups()["acme/shop/*"] == {2}
    resolver.update(policies, {API: 2, WEB: 7})
    assert resolver.groups()["acme/shop/*"] == resolver.groups()["acme/*/*"] == {2, 7}
    resolver.update(policies, {WEB: 8})
    assert resolver.groups()["acme/shop/*"] == {8}
    assert resolver.allows(API) is right, "a new member changes the group, not every right of it"


def test_a_policy_in_one_direction_does_not_cover_the_other() -> None:
    resolver = PolicyResolver()
    policy = rule(Pattern("acme", "shop", "web"), to=TO_API)
    resolver.update((policy,), {WEB: 1, API: 2})
    assert resolver.check(WEB, API, protocol=Protocol.TCP, port=80) is policy
    assert resolver.check(API, WEB, protocol=Protocol.TCP, port=80) is None
    assert resolver.allows(WEB) == frozenset()


def test_destinations_that_are_gone_are_forgotten() -> None:
    resolver = PolicyResolver()
    resolver.update((rule(Scope.SAME_ORG, to=TO_API),), {API: 2})
    first = resolver.allows(API)
    resolver.forget({API})
    assert resolver.allows(API) is first
    resolver.forget(())
    assert resolver.allows(API) == first


def test_the_ports_that_a_source_may_reach_are_those_of_all_its_policies_in_few_ranges() -> None:
    web, api, here = Pattern("acme", "shop", "web"), Pattern("acme", "shop", "api"), Origin("f", 1, 1)
    policies = (
        AppPolicy("a", (web,), api, tcp=(Ports(80, 80),), origin=here),
        AppPolicy(
            "b", (Scope.SAME_SPACE,), Pattern("acme", "shop", None), tcp=(Ports(81, 90),), udp=(Ports(53, 53),), origin=here
        ),
        AppPolicy("c", (Pattern("acme", "shop", "db"),), api, tcp=(Ports(1, 9),), origin=here),
    )
    resolver = PolicyResolver()
    resolver.follow(policies)
    found = resolver.ports(AppName("acme", "shop", "web"), AppName("acme", "shop", "api"))
    assert found == {Protocol.TCP: (Ports(80, 90),), Protocol.UDP: (Ports(53, 53),), Protocol.ICMP: ()}
    none = resolver.ports(AppName("acme", "shop", "web"), AppName("acme", "blog", "api"))
    assert none == {Protocol.TCP: (), Protocol.UDP: (), Protocol.ICMP: ()}


def named(name: str, *sources: Pattern, ports: int = 1) -> AppPolicy:
    return AppPolicy(
        name, sources, TO_API, tcp=tuple(Ports(2 * port + 1, 2 * port + 1) for port in range(ports)), origin=Origin("f", 1, 1)
    )


def test_a_policy_that_would_be_too_many_rights_is_left_out_and_named_and_the_others_hold() -> None:
    """A change of a container's rights costs what its chains are long: 60,000 lines kept all other changes waiting."""
    many = {AppName("acme", "blog", f"a{number}"): number + 10 for number in range(MOST_RIGHTS)}
    tags = {WEB: 1, API: 2, **many}
    fits = named("fits", *(Pattern(*each) for each in (("acme", "blog", f"a{number}") for number in range(MOST_RIGHTS - 3))))
    resolver = PolicyResolver()
    policies = (
        fits,
        named("large", TO_API, Pattern("acme", "shop", "web"), ports=2),
        named("small", Pattern("acme", "shop", "web")),
    )
    resolver.update(policies, tags)
    assert len(resolver.allows(API)) == MOST_RIGHTS - 2
    assert Allow(1, "tcp", 1, 1) in resolver.allows(API)
    assert resolver.left_out() == {API: ("large",)}
    assert resolver.check(API, API, protocol=Protocol.TCP, port=1) is None
    assert resolver.ports(WEB, API)[Protocol.TCP] == (Ports(1, 1),), "`small` allows that, and not what `large` would"
    resolver.update(policies[1:], tags)
    assert {allow.tag for allow in resolver.allows(API)} == {1, 2}
    assert resolver.left_out() == {}
    assert resolver.check(API, API, protocol=Protocol.TCP, port=1) is policies[1]


def test_a_group_is_one_right_however_many_apps_it_has() -> None:
    tags = {AppName("acme", "blog", f"a{number}"): number + 10 for number in range(2 * MOST_RIGHTS)}
    resolver = PolicyResolver()
    resolver.update((named("all", Pattern("acme", "blog", None)),), tags)
    assert len(resolver.allows(API)) == 1
    assert resolver.left_out() == {}
