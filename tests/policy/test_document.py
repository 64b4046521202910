"""docs/policies.md: its rules are good, for the parser and for the schema, and it says which forms nothing enforces yet."""

import re
from ipaddress import IPv4Network
from pathlib import Path

import click
import pytest
import yaml

from agent.cli.policy import allow, check
from agent.config.problems import InvalidSource
from agent.model.outside import Inside
from agent.model.policy import EgressPolicy, IngressPolicy
from agent.policy.forms import ENFORCED, Form
from agent.policy.language import KEYS, allowed, parse
from agent.policy.outside_ends import require_sound
from agent.policy.schema import schema
from tests.policy.test_schema import accepts

PAGE = (Path(__file__).parents[2] / "docs/policies.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
INSIDE = Inside(IPv4Network("10.255.0.0/16"), ("cell.internal", "apps.internal"))


def test_what_the_page_says_of_a_form_is_so() -> None:
    said = {form: re.search(rf"^\| `{re.escape(form.value)}` \|.*\| (.+) \|$", PAGE, re.MULTILINE) for form in Form}
    assert {form: found is not None and found[1] != "refuses it" for form, found in said.items()} == ENFORCED
    assert all(found is not None and found[1].startswith(("refuses it", "enforces it")) for found in said.values())


def test_the_rules_of_the_page_are_taken_but_the_last_which_need_forms_that_nothing_enforces() -> None:
    *taken, refused = BLOCKS
    assert [len(parse(each.encode(), source="/shop.yaml", inside=INSIDE)) for each in taken] == [2, 1, 1]
    with pytest.raises(InvalidSource) as caught:
        parse(refused.encode(), source="/shop.yaml", inside=INSIDE)
    found = [each.message for each in caught.value.problems]
    assert found == [f"`{form.value}` is not supported yet" for form, is_enforced in ENFORCED.items() if not is_enforced]


@pytest.mark.parametrize("command", [allow, check], ids=lambda command: command.name)
def test_the_help_of_commands_names_the_ends_that_nothing_enforces(command: click.Command) -> None:
    _, said, later = (command.help or "").partition("Not supported yet:")
    ends = {Form.FROM_CIDR: "as SRC", Form.TO_HOST: "as DST the name of a host"}
    named = {form: end in " ".join(later.split()) for form, end in ends.items()}
    assert said
    assert named == {form: not ENFORCED[form] for form in ends}


@pytest.mark.usefixtures("every_form")
def test_all_rules_of_the_page_are_good() -> None:
    policies = [policy for block in BLOCKS for policy in parse(block.encode(), source="/shop.yaml", inside=INSIDE)]
    assert {type(each) for each in policies} >= {EgressPolicy, IngressPolicy}
    assert all(accepts(schema(), yaml.safe_load(block)) for block in BLOCKS)


@pytest.mark.usefixtures("every_form")
def test_the_words_of_the_page_are_policies() -> None:
    found = re.findall(r"`cellnet policy allow ([a-z0-9]\S+)\s+(\S+)\s+(\S+)`", PAGE)
    assert len(found) == 3
    for source, to, port in found:
        require_sound(allowed(source, to, [port]), inside=INSIDE)


def test_every_key_is_on_the_page() -> None:
    assert all(f"`{key}" in PAGE for key in KEYS)
