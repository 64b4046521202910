"""The language: what is accepted means what it says, what is not is reported exactly (the corpus), and nothing else happens."""

import itertools
from collections.abc import Callable
from datetime import UTC
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.problems import InvalidSource
from agent.errors import InvalidInput
from agent.model.names import AppName
from agent.model.outside import Cidrs, HostPattern, Hosts, Inside
from agent.model.policy import ANY_PORT, ECHO, AppPolicy, Origin, Pattern, Policy, Ports, Protocol, Scope, Terms, policy_of
from agent.policy.language.documents import document
from agent.policy.language.language import allowed, parse, parse_applied, parse_stored
from agent.policy.language.ports import merged, parse_argument, parse_one

pytestmark = pytest.mark.usefixtures("every_form")
CORPUS = Path(__file__).parent / "corpus"
INSIDE = Inside(IPv4Network("10.255.0.0/16"), ("cell.internal", "apps.internal"))
WEB, API = Pattern("acme", "shop", "web"), Pattern("acme", "shop", "api")
SHOP = b"""
policies:
  - name: web-to-api
    from: acme/shop/web
    to: acme/shop/api
    tcp: [9005-9010, 8080, 9000-9006, '8081']
  - from: [same-space, acme/blog/*, zeta/*/*, same-org, same-space]
    to: acme/shop/*
    udp: any
"""


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_bad_file_is_reported_exactly(path: Path) -> None:
    with pytest.raises(InvalidSource) as caught:
        parse(path.read_bytes(), source=path.name, inside=INSIDE)
    assert f"{caught.value}\n" == path.with_suffix(".expected").read_text()


def test_a_good_file_means_what_it_says() -> None:
    first, second = parse(SHOP, source="/etc/cellnet/policies.d/shop.yaml")
    place = "/etc/cellnet/policies.d/shop.yaml"
    assert first == AppPolicy("web-to-api", (WEB,), API, tcp=(Ports(8080, 8081), Ports(9000, 9010)), origin=Origin(place, 3, 5))
    assert second.name == "shop.yaml:7"
    assert second.sources == (Scope.SAME_SPACE, Pattern("acme", "blog", None), Pattern("zeta", None, None), Scope.SAME_ORG)
    assert (second.to, second.tcp, second.udp) == (Pattern("acme", "shop", None), (), (ANY_PORT,))
    assert str(second.origin) == f"{place}:7"


@pytest.mark.parametrize(
    "text", [b"policies: []", b"---\npolicies: []\n...\n", b"%YAML 1.2\n---\npolicies: []", b"policies: []\r\n"]
)
def test_a_file_may_have_no_policies(text: bytes) -> None:
    assert parse(text, source="none.yaml") == ()


def test_rules_without_a_name_in_one_line_have_names_of_their_own() -> None:
    rule = b"{from: a/b/c, to: a/b/d, tcp: 1}"
    names = [each.name for each in parse(b"policies: [" + rule + b", " + rule + b"]", source="/x/one.yaml")]
    assert names == ["one.yaml:1", "one.yaml:1:46"]


def test_a_file_of_a_mebibyte_is_read_and_one_byte_more_is_refused() -> None:
    small = b"policies: []\n#"
    assert parse(small + b"x" * ((1 << 20) - len(small)), source="big.yaml") == ()
    with pytest.raises(InvalidSource, match="more than 1048576 bytes"):
        parse(small + b"x" * ((1 << 20) - len(small) + 1), source="big.yaml")


@pytest.mark.parametrize(
    "piece", [b"[", b"{a: ", b"- ", b"? ", b"a: [", b"&a ", b"'", b"- x\n", b"a: \n", b"*a ", b"!a ", b"\\", b"|\n "]
)
def test_a_mebibyte_of_anything_ends_with_problems(piece: bytes) -> None:
    with pytest.raises(InvalidSource):
        parse(piece * ((1 << 20) // len(piece)), source="big.yaml")


WORDS = [
    "policies:",
    "from: ",
    "to: ",
    "tcp: ",
    "udp: ",
    "name: ",
    "icmp: echo",
    "{cidr: 192.0.2.0/24",
    "except: ",
    "{host: ",
    "a.example",
    "acme/shop/web",
    "acme/*/*",
    "same-org",
    "any",
    "8080",
    "9-1",
]
MARKS = [
    "\n",
    "  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ": ",
    "'",
    '"',
    "&a ",
    "*a",
    "!!str ",
    "|\n",
    ">\n",
    "---\n",
    "#",
    "~",
    "on",
    "<<: ",
]
YAMLISH = st.lists(st.sampled_from(WORDS + MARKS) | st.text(max_size=3)).map("".join)


@given(st.binary(max_size=300) | YAMLISH.map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_give_policies_or_problems_and_nothing_else(content: bytes) -> None:
    try:
        policies = parse(content, source="any.yaml")
    except InvalidSource as error:
        problems = error.problems
    else:
        assert all(each.name and each.sources and (each.tcp or each.udp or each.icmp) for each in policies)
        return
    assert problems
    for problem in problems:
        lines = str(problem).split("\n")
        assert lines[0].startswith("any.yaml:")
        assert len(lines) <= 4
        assert not any(ord(char) < 32 and char != "\t" for char in "".join(lines)), "something that a terminal obeys"


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
PATTERNS = st.builds(Pattern, LABELS, LABELS, LABELS | st.none()) | st.builds(Pattern, LABELS, st.none(), st.none())
RANGES = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(lambda pair: Ports(min(pair), max(pair)))
PORTS = st.lists(RANGES, max_size=4).map(merged)


APPS = st.lists(PATTERNS, min_size=1, max_size=4, unique=True).map(tuple)
SOURCES = st.lists(PATTERNS | st.sampled_from(Scope), min_size=1, max_size=4, unique=True).map(tuple)
HOSTS = st.lists(
    st.builds(HostPattern, st.lists(LABELS, min_size=2, max_size=4).map(".".join).filter(str.islower), st.booleans()),
    min_size=1, max_size=4, unique=True,
).map(tuple)  # fmt: skip


@st.composite
def cidrs(draw: st.DrawFn) -> Cidrs:
    """Below 127.0.0.0, and without exceptions or with parts of one of the networks."""
    numbers = st.tuples(st.integers(1 << 24, (127 << 24) - 1), st.integers(8, 32))
    networks = draw(st.lists(numbers.map(lambda pair: IPv4Network(pair, strict=False)), min_size=1, max_size=4, unique=True))
    first = networks[0]
    parts = list(first.subnets(new_prefix=min(32, first.prefixlen + 3)))[1:]
    return Cidrs(tuple(networks), tuple(draw(st.lists(st.sampled_from(parts), max_size=3, unique=True)) if parts else ()))


UNTIL = st.none() | st.datetimes().map(lambda each: each.replace(microsecond=0, tzinfo=UTC))
NOTE = st.just("") | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=200)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    tcp, udp, icmp = draw(st.tuples(PORTS, PORTS, st.booleans()).filter(any))
    sources, to = draw(
        st.tuples(SOURCES, PATTERNS) | st.tuples(APPS, cidrs() | HOSTS.map(Hosts)) | st.tuples(cidrs(), PATTERNS)
    )
    audit = draw(st.booleans()) and isinstance(sources, tuple) and isinstance(to, Pattern)
    terms = Terms(tcp=tcp, udp=udp, icmp=icmp, audit=audit, until=draw(UNTIL), note=draw(NOTE), origin=Origin("store"))
    return policy_of(draw(LABELS), sources, to, **terms)


@given(policies())
def test_a_policy_written_as_a_document_reads_as_the_same(policy: Policy) -> None:
    assert parse_stored(policy.name, document(policy)) == policy
    (slowly,) = parse_applied(f"# not as it was written\n{document(policy)}".encode(), source="policies")
    assert slowly == policy


@given(st.lists(RANGES, max_size=8))
def test_merged_ranges_hold_the_same_ports_and_never_touch(ranges: list[Ports]) -> None:
    found = merged(ranges)
    for port in {p for each in ranges for p in (each.first - 1, each.first, each.last, each.last + 1)}:
        assert any(port in each for each in found) == any(port in each for each in ranges)
    assert all(one.last + 1 < two.first for one, two in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("tcp/8080", (Protocol.TCP, Ports(8080, 8080))),
        ("udp/53", (Protocol.UDP, Ports(53, 53))),
        ("tcp/9000-9010", (Protocol.TCP, Ports(9000, 9010))),
        ("tcp/any", (Protocol.TCP, ANY_PORT)),
        ("icmp/echo", (Protocol.ICMP, ECHO)),
    ],
)
def test_a_port_argument_names_protocol_and_ports(text: str, meaning: tuple[Protocol, Ports]) -> None:
    assert parse_argument(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "tcp",
        "tcp/",
        "TCP/80",
        "icmp/1",
        "icmp/any",
        "icmp",
        "tcp/0",
        "tcp/65536",
        "tcp/9-1",
        "tcp/080",
        "tcp/8 0",
        "tcp/²",
    ],
)
def test_a_wrong_port_argument_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_argument(text)
    assert caught.value.hint


@pytest.mark.parametrize("port", [15001, 15008])
def test_the_ends_of_tunnels_are_opened_by_no_policy(port: int) -> None:
    with pytest.raises(InvalidInput, match=f"port {port} is cellnet's own"):
        parse_argument(f"tcp/{port}")
    assert parse_argument(f"udp/{port}") == (Protocol.UDP, Ports(port, port))
    assert parse_argument("tcp/15000-16000") == (Protocol.TCP, Ports(15000, 16000))


def test_check_takes_exactly_one_port() -> None:
    assert parse_one("udp/53") == (Protocol.UDP, 53)
    assert parse_one("icmp/echo") == (Protocol.ICMP, 0)
    with pytest.raises(InvalidInput, match="more than one port"):
        parse_one("tcp/any")


def test_allow_twice_makes_the_same_name_and_another_right_another() -> None:
    first = allowed("acme/shop/web", "acme/shop/api", ["tcp/8080", "tcp/8081"])
    again = allowed("acme/shop/web", "acme/shop/api", ["tcp/8080-8081"])
    other = allowed("acme/shop/web", "acme/shop/api", ["udp/8080"])
    assert first == again
    assert first.name != other.name
    assert first.name.startswith("web-to-api-")
    assert first.tcp == (Ports(8080, 8081),)
    assert parse_stored(first.name, document(first)) == first


@pytest.mark.parametrize(
    ("source", "to"), [("same-space", "acme/*/*"), ("acme/shop/*", "acme/shop/*"), ("a" * 63 + "/b/" + "c" * 63, "a/b/c")]
)
def test_a_made_up_name_is_a_good_name(source: str, to: str) -> None:
    made = allowed(source, to, ["tcp/any"])
    assert parse_stored(made.name, document(made)) == made


@pytest.mark.parametrize(
    ("source", "to", "words"),
    [
        ("acme/shop/web", "acme/shop/db", "web-to-db"),
        ("same-space", "acme/shop/db", "same-space-to-db"),
        ("same-org", "acme/shop/*", "same-org-to-shop-all"),
        ("acme/shop/*", "acme/shop/db", "shop-all-to-db"),
        ("acme/*/*", "acme/*/*", "acme-all-to-acme-all"),
    ],
)
def test_a_made_up_name_names_source_and_destination(source: str, to: str, words: str) -> None:
    assert allowed(source, to, ["tcp/5432"]).name.rpartition("-")[0] == words


def test_allow_refuses_a_bad_name_and_bad_apps() -> None:
    for source, to, name in (("acme", "a/b/c", None), ("a/b/c", "same-org", None), ("a/b/c", "a/b/c", "x/y")):
        with pytest.raises(InvalidInput):
            allowed(source, to, ["tcp/1"], name=name)


def test_what_goes_into_the_store_without_a_name_gets_the_one_that_allow_makes_up() -> None:
    text = b"policies: [{name: one, from: a/b/c, to: a/b/d, tcp: 1}, {from: a/b/c, to: a/b/d, tcp: 1}]"
    named, unnamed = parse_applied(text, source="f.yaml")
    assert (named.name, str(named.origin)) == ("one", "store")
    assert unnamed == allowed("a/b/c", "a/b/d", ["tcp/1"])


def test_two_without_a_name_that_allow_the_same_are_one_in_the_store() -> None:
    rule = "{from: a/b/c, to: a/b/d, tcp: 1}"
    (policy,) = parse_applied(f"policies: [{rule}, {rule}]".encode(), source="f.yaml")
    assert policy.tcp == (Ports(1, 1),)


def test_a_made_up_name_that_another_has_in_the_same_file_is_refused() -> None:
    name = allowed("a/b/c", "a/b/d", ["tcp/1"]).name
    text = f"policies:\n- {{name: {name}, from: a/b/c, to: a/b/d, tcp: 2}}\n- {{from: a/b/c, to: a/b/d, tcp: 1}}\n"
    with pytest.raises(InvalidSource, match=f"^f.yaml:3:3: name '{name}' is given twice"):
        parse_applied(text.encode(), source="f.yaml")


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.yaml")), ids=lambda path: path.stem)
def test_apply_accepts_and_refuses_what_a_file_does_for_the_same_reasons(path: Path) -> None:
    def judged(parser: Callable[..., object]) -> str:
        try:
            parser(path.read_bytes(), source=path.name, inside=INSIDE)
        except InvalidSource as error:
            return str(error)
        return ""

    assert judged(parse_applied) == judged(parse)


@pytest.mark.parametrize("text", ["policies: []", "policies: [{name: b, from: a/b/c, to: a/b/d, tcp: 1}]", "nonsense"])
def test_a_stored_document_that_is_not_its_policy_is_refused(text: str) -> None:
    with pytest.raises(InvalidSource):
        parse_stored("a", text)


@given(PATTERNS, LABELS, LABELS, LABELS)
def test_a_pattern_reads_back_and_matches_what_it_spells(pattern: Pattern, org: str, space: str, app: str) -> None:
    assert Pattern.parse(str(pattern)) == pattern
    assert pattern.matches(AppName(pattern.org, pattern.space or space, pattern.app or app))
    assert not pattern.matches(AppName(pattern.org + "x", pattern.space or space, pattern.app or app))
