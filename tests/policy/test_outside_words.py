"""Policies with an end outside in the words of `policy allow SRC DST PORT…`, and what no policy may name as outside."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.config.problems import InvalidSource
from agent.errors import InvalidInput
from agent.model.outside import Inside
from agent.model.policy import Protocol
from agent.policy.language.documents import document
from agent.policy.language.language import allowed, parse_applied, parse_stored
from agent.store.protocols import StoredPolicy
from tests.testlib.beds.policies import policies_in
from tests.testlib.fakes.store import MemoryStore

pytestmark = pytest.mark.usefixtures("every_form")
INSIDE = Inside(IPv4Network("10.255.0.0/16"), ("cell.internal", "apps.internal"))


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("a/b/web 192.0.2.0/24 tcp/443", "{from: a/b/web, to: {cidr: 192.0.2.0/24}, tcp: 443}"),
        ("a/b/* 192.0.2.7 udp/53", "{from: a/b/*, to: {cidr: 192.0.2.7/32}, udp: 53}"),
        ("a/b/web api.example.com tcp/any", "{from: a/b/web, to: {host: api.example.com}, tcp: any}"),
        ("a/*/* *.example.com tcp/443 icmp/echo", "{from: a/*/*, to: {host: '*.example.com'}, tcp: 443, icmp: echo}"),
        ("0.0.0.0/0 a/b/web tcp/8080", "{from: {cidr: 0.0.0.0/0}, to: a/b/web, tcp: 8080}"),
        ("a/b/web a/b/api icmp/echo", "{from: a/b/web, to: a/b/api, icmp: echo}"),
    ],
)
def test_words_mean_what_a_rule_means_and_have_the_name_that_it_gets(words: str, rule: str) -> None:
    source, to, *ports = words.split()
    (policy,) = parse_applied(f"policies: [{rule}]".encode(), source="f.yaml", inside=INSIDE)
    made = allowed(source, to, ports)
    assert made == policy
    assert parse_stored(made.name, document(made), inside=INSIDE) == made


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("a/b/web 192.0.2.0/24", "web-to-192.0.2.0-24"),
        ("a/b/web api.example.com", "web-to-api.example.com"),
        ("a/b/* *.example.org", "b-all-to-example.org-all"),
        ("0.0.0.0/0 a/b/web", "0.0.0.0-0-to-web"),
        ("a/b/web _dmarc.some-very-long-name.example.org", "web-to-dmarc.some-very-long"),
    ],
)
def test_a_made_up_name_says_what_is_outside(words: str, name: str) -> None:
    source, to = words.split()
    assert allowed(source, to, ["tcp/1"]).name.rpartition("-")[0] == name


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("192.0.2.0/24 198.51.100.0/24", "both ends are outside"),
        ("192.0.2.0/24 api.example.com", "both ends are outside"),
        ("api.example.com a/b/web", "'api.example.com' is not an address"),
        ("same-space 192.0.2.0/24", "a scope is that of an app"),
        ("same-org api.example.com", "a scope is that of an app"),
        ("a/b/web 192.0.2.7/24", "is an address within 192.0.2.0/24"),
        ("a/b/web 2001:db8::1", "is IPv6"),
        ("a/b/web https://api.example.com/", "is more than a name"),
        ("a/b/web api.example.com:443", "is more than a name"),
        ("a/b/web a/b/api.v2", "'api.v2' in 'a/b/api.v2' is not a DNS label"),
    ],
)
def test_words_that_name_no_policy_are_refused(words: str, what: str) -> None:
    source, to = words.split()
    with pytest.raises(InvalidInput) as caught:
        allowed(source, to, ["tcp/1"])
    assert what in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize(
    ("source", "to"),
    [
        ("a/b/web", "10.255.1.3"),
        ("a/b/web", "169.254.169.254"),
        ("a/b/web", "127.0.0.0/8"),
        ("10.255.0.0/24", "a/b/web"),
        ("a/b/web", "web.b.a.cell.internal"),
        ("a/b/web", "*.apps.internal"),
    ],
)
async def test_what_is_the_cells_own_is_no_outside_however_it_is_written(source: str, to: str, tmp_path: Path) -> None:
    store = MemoryStore()
    policies = policies_in(tmp_path, inside=INSIDE, store=store)
    with pytest.raises(InvalidInput, match="is never outside"):
        await policies.allow(source, to=to, ports=("tcp/1",), name=None, writer=None)
    made = allowed(source, to, ["tcp/1"], name="made")
    with pytest.raises(InvalidInput, match="is never outside"):
        await policies.apply(document(made), writer=None)
    await store.apply_policies([StoredPolicy(made.name, document(made))])
    (tmp_path / "policies.d/one.yaml").write_text(document(made))
    again = policies_in(tmp_path, store, inside=INSIDE)
    assert await again.in_force() == ()
    assert len([each for each in again.problems() if "is never outside" in each.what]) == 2


@pytest.mark.parametrize(("source", "to"), [("a/b/web", "0.0.0.0/0"), ("a/b/web", "10.0.0.0/8"), ("169.254.7.7", "a/b/web")])
async def test_a_network_that_is_more_than_the_cells_own_is_taken(source: str, to: str, tmp_path: Path) -> None:
    policies = policies_in(tmp_path, inside=INSIDE, store=MemoryStore())
    await policies.allow(source, to=to, ports=("tcp/1",), name=None, writer=None)
    (policy,) = await policies.in_force()
    assert policy.ports(Protocol.TCP)


@pytest.mark.parametrize("excepted", ["192.0.3.0/25", "192.0.2.0/23", "192.0.2.0/24"])
def test_a_stored_document_with_exceptions_that_are_no_part_is_refused(excepted: str) -> None:
    text = '{"policies": [{"name": "a", "from": ["a/b/c"], "to": {"cidr": ["192.0.2.0/24"], "except": ["%s"]}, "tcp": ["1"]}]}'
    assert parse_stored("a", text % "192.0.2.0/25")
    with pytest.raises(InvalidSource):
        parse_stored("a", text % excepted)
