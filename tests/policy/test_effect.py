"""What a change would do, against a slow and obvious oracle: each pair of apps is asked before and after, port by port."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.problems import InvalidSource
from agent.errors import InvalidInput
from agent.model.names import AppName, Space
from agent.model.outside import NOTHING_INSIDE
from agent.model.policy import AppPolicy, Origin, Pattern, Policy, Ports, Protocol, Scope
from agent.policy.effect import effect
from agent.policy.language.language import parse
from agent.policy.language.ports import merged, without
from agent.policy.oddities import covers
from agent.policy.proposal import Proposal, Written
from agent.policy.rights.edges import Edge, Roll, matrix
from agent.policy.rights.resolve import PolicyResolver

APPS = frozenset(AppName(org, space, name) for org in ("acme", "zeta") for space in ("shop", "blog") for name in ("web", "api"))
EXACT = [Pattern(a.org, a.space, a.app) for a in sorted(APPS)]
PATTERNS = [*EXACT, Pattern("acme", "shop", None), Pattern("acme", None, None), Pattern("zeta", None, None)]
RANGES = st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda pair: Ports(min(pair), max(pair)))
PORTS = st.lists(RANGES, min_size=1, max_size=3).map(merged)
FOLDER = Path("/etc/cellnet/policies.d")


def made(sources: list[Pattern | Scope], to: Pattern, tcp: tuple[Ports, ...], line: int, *, audit: bool) -> AppPolicy:
    return AppPolicy(f"p{line}", tuple(sources), to, tcp=tcp, audit=audit, origin=Origin("f", line, 1))


SOURCES = st.lists(st.sampled_from([*PATTERNS, *Scope]), min_size=1, max_size=2)
POLICIES = st.builds(
    made,
    st.lists(st.sampled_from([*PATTERNS, *Scope]), min_size=1, max_size=2),
    st.sampled_from(PATTERNS),
    PORTS,
    st.integers(1, 99),
    audit=st.booleans(),
)
SETS = st.lists(POLICIES, max_size=5).map(tuple)


def opened(policies: tuple[Policy, ...]) -> set[tuple[str, str, int, bool]]:
    """What passes, and whether by an audit alone."""
    resolver = PolicyResolver()
    resolver.follow(policies)
    return {
        (str(one), str(other), port, found.audit)
        for one in APPS for other in APPS for port in range(1, 10)
        if (found := resolver.check(one, other, protocol=Protocol.TCP, port=port)) is not None
    }  # fmt: skip


def spelled(edges: tuple[Edge, ...]) -> set[tuple[str, str, int, bool]]:
    found = set[tuple[str, str, int, bool]]()
    for edge in edges:
        for text in edge.ports:
            first, _, last = text.removeprefix("tcp/").partition("-")
            found |= {(edge.source, edge.to, port, edge.audit) for port in range(int(first), int(last or first) + 1)}
    return found


@given(SETS, SETS)
def test_pairs_gain_and_lose_what_the_resolver_says(before: tuple[Policy, ...], after: tuple[Policy, ...]) -> None:
    found = effect(before, after, known=APPS)
    was, will = opened(before), opened(after)
    assert spelled(found.opens) == will - was
    assert spelled(found.closes) == was - will
    assert spelled(matrix(after, Roll(APPS), app=None)) == will


@given(POLICIES, POLICIES)
def test_what_covers_another_allows_all_of_it(wider: AppPolicy, policy: AppPolicy) -> None:
    if covers(wider, policy):
        assert {each[:3] for each in opened((policy,))} <= {each[:3] for each in opened((wider,))}
        assert policy.audit or not wider.audit
    assert covers(policy, policy)


@given(PORTS, PORTS)
def test_ports_that_another_has_are_taken_out(one: tuple[Ports, ...], other: tuple[Ports, ...]) -> None:
    found = without(one, other)
    for port in range(12):
        assert any(port in each for each in found) == (
            any(port in each for each in one) and not any(port in each for each in other)
        )


def rules(*texts: str) -> str:
    return "\n".join(("policies: [", *(f"{{{each}}}," for each in texts), "]"))


def written(*texts: str, stored: tuple[Policy, ...] = ()) -> Written:
    return Written(FOLDER, parse(rules(*texts).encode(), source=str(FOLDER / "a.yaml")), stored, NOTHING_INSIDE)


def difference(held: Written, proposal: Proposal) -> tuple[list[str], list[str]]:
    found = effect((*held.files, *held.stored), proposal.on(held), known=APPS)
    return [f"{e.source}>{e.to} {' '.join(e.ports)}" for e in found.opens], [
        f"{e.source}>{e.to} {' '.join(e.ports)}" for e in found.closes
    ]


def test_a_file_takes_the_place_of_its_name_and_a_folder_of_all() -> None:
    held = written("from: acme/shop/web, to: acme/shop/api, tcp: 80")
    more = rules("from: acme/shop/web, to: acme/shop/api, tcp: [80, 443]")
    assert difference(held, Proposal({"a.yaml": more})) == (["acme/shop/web>acme/shop/api tcp/443"], [])
    other = rules("from: acme/shop/web, to: acme/blog/api, tcp: 80")
    assert difference(held, Proposal({"b.yaml": other})) == (["acme/shop/web>acme/blog/api tcp/80"], [])
    assert difference(held, Proposal({"b.yaml": other}, whole=True)) == (
        ["acme/shop/web>acme/blog/api tcp/80"], ["acme/shop/web>acme/shop/api tcp/80"],
    )  # fmt: skip


def test_the_store_replaces_by_name_and_loses_names_and_spaces() -> None:
    first = parse(rules("name: one, from: acme/shop/web, to: acme/shop/api, tcp: 80").encode(), source="x", named=True)
    second = parse(rules("name: two, from: zeta/shop/web, to: acme/blog/api, tcp: 80").encode(), source="x", named=True)
    held = written(stored=(*first, *second))
    document = rules("name: one, from: acme/shop/web, to: acme/shop/api, tcp: 81")
    assert difference(held, Proposal(document=document)) == (
        ["acme/shop/web>acme/shop/api tcp/81"], ["acme/shop/web>acme/shop/api tcp/80"],
    )  # fmt: skip
    assert difference(held, Proposal(names=("two",))) == ([], ["zeta/shop/web>acme/blog/api tcp/80"])
    for space in ("acme/shop", "zeta/shop"):
        proposal = Proposal(space=Space.parse(space))
        assert proposal.leaving(held.stored) == ({"acme/shop": "one", "zeta/shop": "two"}[space],)
    with pytest.raises(InvalidInput, match="no policy 'three'"):
        Proposal(names=("three",)).on(held)
    with pytest.raises(InvalidSource, match="tcp"):
        Proposal(document="policies: [{from: a/b/c, to: a/b/d}]").on(held)


def test_what_is_odd_about_policies_that_come_is_said() -> None:
    held = written("name: all, from: same-space, to: acme/shop/*, tcp: any")
    text = rules(
        "name: all, from: acme/shop/web, to: acme/shop/api, tcp: 80",
        "name: typo, from: acme/shop/wbe, to: acme/blog/api, tcp: 1",
    )
    found = effect(held.files, Proposal({"b.yaml": text}).on(held), known=APPS)
    assert "nothing of acme/shop/wbe runs here or is named; did you mean acme/shop/web?" in found.notices
    assert f"all is the name of another policy, too ({FOLDER}/a.yaml:2)" in found.notices
    assert f"all allows nothing that all ({FOLDER}/a.yaml:2) does not allow" in found.notices


def test_what_is_moved_within_its_file_is_no_change() -> None:
    held = written("from: acme/shop/web, to: acme/shop/api, tcp: 80")
    text = "# a comment more\n" + rules("from: acme/shop/web, to: acme/shop/api, tcp: 80")
    found = effect(held.files, Proposal({"a.yaml": text}).on(held), known=APPS)
    assert (found.added, found.removed, found.opens) == ((), (), ())


def test_ends_outside_stand_as_they_are_written() -> None:
    held = written()
    text = rules("from: acme/shop/*, to: {cidr: 192.0.2.0/24, except: 192.0.2.9}, tcp: 443")
    opens, closes = difference(held, Proposal({"b.yaml": text}))
    assert opens == [f"acme/shop/{name}>192.0.2.0/24 except 192.0.2.9/32 tcp/443" for name in ("api", "web")]
    assert closes == []
