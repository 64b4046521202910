"""A form that nothing enforces is refused wherever it is written; one that is enforced is taken."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.config.problems import InvalidSource
from agent.errors import InvalidInput
from agent.model.outside import Inside
from agent.policy.language.documents import document
from agent.policy.language.forms import ENFORCED, Form
from agent.policy.language.language import allowed, parse
from agent.policy.language.schema import schema
from agent.store.protocols import StoredPolicy
from tests.testlib.beds.policies import policies_in
from tests.testlib.fakes.store import MemoryStore

INSIDE = Inside(IPv4Network("10.255.0.0/16"), ("cell.internal", "apps.internal"))
RULES = {
    Form.TO_CIDR: "{name: p, from: a/b/c, to: {cidr: 192.0.2.0/24}, tcp: 1}",
    Form.TO_HOST: "{name: p, from: a/b/c, to: {host: api.example.com}, tcp: 1}",
    Form.FROM_CIDR: "{name: p, from: {cidr: 0.0.0.0/0}, to: a/b/c, tcp: 1}",
    Form.ECHO: "{name: p, from: a/b/c, to: a/b/d, icmp: echo}",
}
WORDS = {
    Form.TO_CIDR: ("a/b/c", "192.0.2.0/24", "tcp/1"),
    Form.TO_HOST: ("a/b/c", "api.example.com", "tcp/1"),
    Form.FROM_CIDR: ("0.0.0.0/0", "a/b/c", "tcp/1"),
    Form.ECHO: ("a/b/c", "a/b/d", "icmp/echo"),
}
EVERY = pytest.mark.parametrize("form", Form, ids=lambda form: form.name.lower())


@pytest.fixture(autouse=True)
def closed() -> Iterator[pytest.MonkeyPatch]:
    """As if none were enforced."""
    with pytest.MonkeyPatch.context() as patch:
        for form in Form:
            patch.setitem(ENFORCED, form, False)
        yield patch


@EVERY
def test_a_form_that_nothing_enforces_is_refused_at_its_place_and_a_form_that_is_enforced_is_taken(
    form: Form, closed: pytest.MonkeyPatch
) -> None:
    text = f"policies: [{RULES[form]}]".encode()
    with pytest.raises(InvalidSource) as caught:
        parse(text, source="f.yaml")
    (mistake,) = caught.value.problems
    assert mistake.message == f"`{form.value}` is not supported yet"
    assert mistake.column > text.index(b"p,"), "the mistake is the form, not the rule"
    closed.setitem(ENFORCED, form, True)
    assert len(parse(text, source="f.yaml")) == 1


@EVERY
async def test_a_form_that_nothing_enforces_does_not_get_into_the_store(
    form: Form, tmp_path: Path, closed: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    policies = policies_in(tmp_path, inside=INSIDE, store=store)
    source, to, *ports = WORDS[form]
    with pytest.raises(InvalidInput, match="is not supported yet"):
        await policies.allow(source, to=to, ports=tuple(ports), name=None, writer=None)
    with pytest.raises(InvalidInput, match="is not supported yet"):
        await policies.apply(f"policies: [{RULES[form]}]", writer=None)
    assert await store.policies() == ()
    closed.setitem(ENFORCED, form, True)
    await policies.allow(source, to=to, ports=tuple(ports), name=None, writer=None)
    await policies.apply(f"policies: [{RULES[form]}]", writer=None)
    assert len(await policies.in_force()) == 2


@EVERY
async def test_one_that_another_version_has_put_into_the_store_is_left_out_and_named(form: Form, tmp_path: Path) -> None:
    store = MemoryStore()
    made = allowed(*WORDS[form][:2], WORDS[form][2:], name="newer")
    between = allowed("a/b/c", "a/b/d", ["tcp/1"], name="older")
    await store.apply_policies([StoredPolicy(each.name, document(each)) for each in (made, between)])
    policies = policies_in(tmp_path, inside=INSIDE, store=store)
    assert await policies.in_force() == (between,)
    (problem,) = policies.problems()
    assert "policy 'newer' in the store" in problem.what
    assert "is not supported yet" in problem.what


def test_an_echo_to_the_outside_needs_both_forms(closed: pytest.MonkeyPatch) -> None:
    text = b"policies: [{from: a/b/c, to: {cidr: 192.0.2.0/24}, icmp: echo}]"
    for form in (Form.TO_CIDR, Form.ECHO):
        with pytest.raises(InvalidSource, match="is not supported yet"):
            parse(text, source="f.yaml")
        closed.setitem(ENFORCED, form, True)
    (policy,) = parse(text, source="f.yaml")
    assert policy.icmp


@EVERY
def test_the_schema_has_no_form_that_nothing_enforces(form: Form, closed: pytest.MonkeyPatch) -> None:
    words = {Form.TO_CIDR: "cidr", Form.TO_HOST: "host", Form.FROM_CIDR: "cidr", Form.ECHO: "icmp"}
    assert not any(f"'{each}'" in str(schema()) for each in words.values())
    assert "outside" not in str(schema()), "nor speaks of it"
    closed.setitem(ENFORCED, form, True)
    assert {each for each in words.values() if f"'{each}'" in str(schema())} == {words[form]}
    assert ("of the outside" in str(schema())) == (form is not Form.ECHO)
