"""The schema for editors says yes and no where the parser does, as far as a schema can see."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config.problems import InvalidSource
from agent.policy.language.language import parse
from agent.policy.language.schema import schema

pytestmark = pytest.mark.usefixtures("every_form")
CORPUS = Path(__file__).parent / "corpus"
BEYOND_A_SCHEMA = {
    "anchor-and-alias",
    "byte-order-mark",
    "control-characters",
    "escapes-in-text",
    "merge-key",
    "name-twice",
    "tag",
}
BEYOND_A_SCHEMA |= {"outside-own-networks", "tunnel-ports", "twice", "two-documents", "utf-16"}


def accepts(schema: Mapping[str, Any], value: object) -> bool:
    """The keywords that our schema uses, as the standard has them; an unknown one is an error."""
    return all(keyword(name, wanted, value, schema) for name, wanted in schema.items())


def keyword(name: str, wanted: Any, value: object, schema: Mapping[str, Any]) -> bool:
    match name:
        case "$schema" | "title" | "description":
            return True
        case "type":
            kinds = {"object": dict, "array": list, "string": str, "integer": int}
            return isinstance(value, kinds[wanted]) and not isinstance(value, bool)
        case "required":
            return not isinstance(value, dict) or set(wanted) <= value.keys()
        case "additionalProperties":
            return not isinstance(value, dict) or value.keys() <= schema["properties"].keys()
        case "properties":
            return not isinstance(value, dict) or all(accepts(s, value[k]) for k, s in wanted.items() if k in value)
        case "items":
            return not isinstance(value, list) or all(accepts(wanted, item) for item in value)
        case "minItems":
            return not isinstance(value, list) or len(value) >= wanted
        case "anyOf":
            return any(accepts(each, value) for each in wanted)
        case "allOf":
            return all(accepts(each, value) for each in wanted)
        case "pattern":
            return not isinstance(value, str) or re.search(wanted.replace("$", r"\Z"), value) is not None
        case "maxLength":
            return not isinstance(value, str) or len(value) <= wanted
        case "minimum":
            return not isinstance(value, int) or value >= wanted
        case "maximum":
            return not isinstance(value, int) or value <= wanted
    raise AssertionError(f"a keyword that this test does not know: {name}")


def parser_accepts(content: bytes) -> bool:
    try:
        parse(content, source="f.yaml")
    except InvalidSource:
        return False
    return True


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_bad_file_is_refused_by_the_schema_too(path: Path) -> None:
    if path.stem in BEYOND_A_SCHEMA:
        return
    try:
        value = yaml.load(path.read_bytes(), Loader=yaml.CBaseLoader if path.stem == "deep" else yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return  # an editor says so before any schema
    assert not accepts(schema(), value)


RULE = "policies: [{from: %s, to: %s, tcp: %s}]"
NAMED = "policies: [{name: %s, from: a/b/c, to: a/b/c, tcp: 1}]"
GOOD, APP = "acme/shop/web", "acme/shop/api"
SOURCES = ["acme/shop/*", "acme/*/*", "same-space", "same-org", "[acme/shop/web, same-org]", "a/b-c/0", f"a/b/{'c' * 63}"]
SOURCES += [
    "'*/*/*'",
    "[]",
    "any",
    "A/b/c",
    "a/b",
    "a-/b/c",
    "[[a/b/c]]",
    "{}",
    "1",
    "a/b/c/d",
    "a/-b/c",
    "a/*/c",
    f"a/b/{'c' * 64}",
]
PORTS = [
    "1",
    "65535",
    "0",
    "65536",
    "any",
    "1-65535",
    "'80'",
    "9000-9010",
    "[1, 2-3, any]",
    "[]",
    "'080'",
    "70000-70001",
    "1-2-3",
]
PORTS += ["a", "-1", "[[1]]", "65529", "59999", "'65536'", "'65540'", "'65600'", "'66000'", "'100000'", "true", "1.5", "''"]
NAMES = ["a", "a_b.c-d", "-a", "a/b", "''", "a" * 63, "a" * 64]
NETWORKS = ["192.0.2.0/24", "192.0.2.7", "0.0.0.0/0", "203.0.113.255/32", "[192.0.2.0/24, 198.51.100.7]", "[]", "{}", "~"]
NETWORKS += ["192.0.2.0/33", "192.0.2.256", "192.0.2", "010.0.0.1", "192.0.2.0/", "'2001:db8::/32'", "10", "10.0"]
HOSTS = ["api.example.com", "'*.example.com'", "'*.internal'", "[a_b.example.com, xn--bcher-kva.example]", "1a.b", "a.b1"]
HOSTS += ["api", "API.example.com", "api.example.com.", "'*'", "'*.'", "a.*.b", "'a*.b'", "1.2.3.4", "1.2", "'*.1.2'", "-a.b"]
HOSTS += ["[]", "a..b", "bücher.example", "https://a.b", "'a.b:1'", "a.b/c", f"{'a' * 63}.b", f"{'a' * 64}.b", "on", "~"]
RULES = [f"{{from: a/b/c, to: {{cidr: {each}}}, tcp: 1}}" for each in NETWORKS]
RULES += [f"{{from: {{cidr: {each}}}, to: a/b/*, tcp: 1}}" for each in NETWORKS]
RULES += [f"{{from: [a/b/c, a/*/*], to: {{host: {each}}}, udp: any}}" for each in HOSTS]
RULES += [
    "{from: a/b/c, to: {cidr: 192.0.2.0/24, except: 192.0.2.0/25}, icmp: echo}",
    "{from: a/b/c, to: {cidr: 192.0.2.0/24, host: a.b}, tcp: 1}",
    "{from: a/b/c, to: {except: 192.0.2.0/25}, tcp: 1}",
    "{from: a/b/c, to: {host: a.b}, icmp: any}",
    "{from: a/b/c, to: {}, tcp: 1}",
    "{from: a/b/c, to: [{cidr: 192.0.2.0/24}], tcp: 1}",
    "{from: a/b/c, to: {cidr: 192.0.2.0/24, exempt: 192.0.2.1}, tcp: 1}",
    "{from: same-space, to: {cidr: 192.0.2.0/24}, tcp: 1}",
    "{from: [a/b/c, same-org], to: {host: a.b}, tcp: 1}",
    "{from: [a/b/c, {cidr: 192.0.2.0/24}], to: a/b/d, tcp: 1}",
    "{from: {cidr: 0.0.0.0/0}, to: {cidr: 192.0.2.0/24}, tcp: 1}",
    "{from: {host: a.b}, to: a/b/c, tcp: 1}",
    "{from: a/b/c, to: 192.0.2.0/24, tcp: 1}",
    "{from: a/b/c, to: {cidr: 192.0.2.0/24}}",
    "{from: a/b/c, to: a/b/d, icmp: echo}",
    "{from: a/b/c, to: a/b/d, icmp: [echo]}",
]
FILES = ["policies: []", "{}", "policies: [{}]"] + [
    f"policies: [{{from: a/b/c, to: a/b/c{more}}}]" for more in ("", ", udp: 1")
]


@pytest.mark.parametrize(
    "text",
    [RULE % (source, APP, 80) for source in SOURCES]
    + [RULE % (GOOD, to, 80) for to in SOURCES]
    + [RULE % (GOOD, APP, ports) for ports in PORTS]
    + [NAMED % name for name in NAMES]
    + [f"policies: [{rule}]" for rule in RULES]
    + FILES,
)
def test_schema_and_parser_agree(text: str) -> None:
    assert accepts(schema(), yaml.safe_load(text)) == parser_accepts(text.encode())
