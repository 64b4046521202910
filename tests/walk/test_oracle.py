"""The oracle itself: what the documentation says, sentence by sentence, and that it and the product read rules alike."""

import ast
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.names import AppName
from agent.policy.language.language import parse
from agent.policy.rights.resolve import PolicyResolver
from tests.testlib import oracle
from tests.testlib.oracle import Known, Rule, named, opened, reaches

WEB, API, BLOG, FOREIGN = "acme/shop/web", "acme/shop/api", "acme/blog/web", "zeta/shop/web"
APPS = [f"{org}/{space}/{app}" for org in ("acme", "zeta") for space in ("shop", "blog") for app in ("web", "api")]


def test_the_oracle_imports_nothing_of_what_it_judges() -> None:
    tree = ast.parse(Path(oracle.__file__).read_text())
    found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert found
    assert {name.partition(".")[0] for name in found} <= sys.stdlib_module_names


def can(rule: Rule, source: str, to: str, port: int = 8080, protocol: str = "tcp") -> bool:
    return reaches(source, to=to, protocol=protocol, port=port, known=Known(files={"a.yaml": [rule]}))


def test_nothing_is_allowed_that_no_policy_allows() -> None:
    assert not any(reaches(WEB, to=to, protocol="tcp", port=8080, known=Known()) for to in APPS)


def test_files_and_the_store_add_up() -> None:
    known = Known({"a.yaml": [{"from": WEB, "to": API, "tcp": 8080}]}, {"b": {"from": WEB, "to": API, "udp": 53}})
    assert reaches(WEB, to=API, protocol="tcp", port=8080, known=known)
    assert reaches(WEB, to=API, protocol="udp", port=53, known=known)
    assert not reaches(WEB, to=API, protocol="udp", port=8080, known=known)


@pytest.mark.parametrize(
    ("sources", "those"),
    [
        (WEB, {WEB}),
        ([WEB, FOREIGN], {WEB, FOREIGN}),
        ("same-space", {WEB, API}),
        ("same-org", {WEB, API, BLOG}),
        ("acme/shop/*", {WEB, API}),
        ("acme/*/*", {WEB, API, BLOG}),
        (["zeta/*/*", API], {FOREIGN, API}),
    ],
)
def test_a_source_is_an_app_a_list_a_scope_or_a_pattern(sources: object, those: set[str]) -> None:
    rule = {"from": sources, "to": API, "tcp": [8080]}
    assert {each for each in (WEB, API, BLOG, FOREIGN) if can(rule, each, API)} == those


def test_a_scope_is_that_of_the_destination_whatever_pattern_names_it() -> None:
    rule = {"from": "same-space", "to": "acme/shop/*", "tcp": "any"}
    assert can(rule, WEB, API)
    assert can(rule, API, WEB)
    assert not can(rule, BLOG, API)
    assert not can(rule, BLOG, BLOG)


def test_a_policy_never_covers_the_other_direction_nor_two_instances_of_the_destination() -> None:
    rule = {"from": WEB, "to": API, "tcp": 8080}
    assert not can(rule, API, WEB)
    assert not can(rule, API, API)
    assert can({"from": API, "to": API, "tcp": 8080}, API, API)


def test_a_policy_opens_its_ports_of_its_protocol_and_61443_is_one_like_others() -> None:
    rule = {"from": WEB, "to": API, "tcp": [8080, "9000-9010"], "udp": "any"}
    assert [port for port in (8079, 8080, 8081, 8999, 9000, 9010, 9011, 61443) if can(rule, WEB, API, port)] == [
        8080, 9000, 9010,
    ]  # fmt: skip
    assert all(can(rule, WEB, API, port, "udp") for port in (1, 5353, 61443, 65535))
    assert can({"from": WEB, "to": API, "tcp": "61443"}, WEB, API, 61443)


def test_ports_are_the_same_however_they_are_written() -> None:
    assert opened({"tcp": ["81-90", 80, "85-95", 100]}, "tcp") == [(80, 95), (100, 100)]
    assert opened({"tcp": "any"}, "tcp") == [(1, 65535)]
    assert opened({"tcp": 80}, "udp") == []


def test_an_app_is_named_where_it_is_spelled_out() -> None:
    assert named([{"from": [WEB, "same-org", "zeta/*/*"], "to": API}, {"from": BLOG, "to": "acme/shop/*"}]) == {WEB, API, BLOG}


SOURCES = st.sampled_from([*APPS, "same-space", "same-org", "acme/shop/*", "zeta/blog/*", "acme/*/*", "zeta/*/*"])
RANGES = (
    st.integers(1, 12)
    | st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda pair: f"{min(pair)}-{max(pair)}")
    | st.sampled_from(["any", "65535", "12"])
)
PORTS = RANGES | st.lists(RANGES, min_size=1, max_size=3)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    rule: dict[str, object] = {
        "from": draw(SOURCES | st.lists(SOURCES, min_size=1, max_size=3)),
        "to": draw(st.sampled_from([*APPS, "acme/shop/*", "zeta/blog/*"])),
    }
    for protocol in draw(st.sampled_from([("tcp",), ("udp",), ("tcp", "udp")])):
        rule[protocol] = draw(PORTS)
    return rule


@given(st.lists(rules(), max_size=5), st.sampled_from(APPS))
def test_the_oracle_and_the_product_read_a_file_alike(found: list[Rule], to: str) -> None:
    tags = {AppName.parse(app): number for number, app in enumerate(APPS, 1)}
    resolver = PolicyResolver()
    resolver.update(parse(json.dumps({"policies": found}).encode(), source="/a.yaml"), tags)
    groups, allows = resolver.groups(), resolver.allows(AppName.parse(to))
    for source in APPS:
        tag = tags[AppName.parse(source)]
        mine = [each for each in allows if (tag in groups[each.group] if each.group else tag == each.tag)]
        for protocol in ("tcp", "udp"):
            for port in (*range(1, 15), 61443, 65535):
                theirs = any(each.protocol == protocol and each.first <= port <= each.last for each in mine)
                ours = reaches(source, to=to, protocol=protocol, port=port, known=Known(files={"a.yaml": found}))
                assert ours == theirs, f"{source} to {to} on {protocol}/{port}: the oracle says {ours}, the product {theirs}"
