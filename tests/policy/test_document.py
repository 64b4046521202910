"""docs/policies.md: its rules are good, for the parser and for the schema, and it has all forms."""

import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from agent.model.outside import Inside
from agent.model.policy import EgressPolicy, IngressPolicy
from agent.policy.language.forms import ENFORCED, Form
from agent.policy.language.language import KEYS, allowed, parse
from agent.policy.language.outside_ends import require_sound
from agent.policy.language.schema import schema
from tests.policy.test_schema import accepts

PAGE = (Path(__file__).parents[2] / "docs/policies.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
INSIDE = Inside(IPv4Network("10.255.0.0/16"), ("cell.internal", "apps.internal"))


def test_the_page_has_every_form_and_all_of_them_are_enforced() -> None:
    assert all(f"| `{form.value}` |" in PAGE for form in Form)
    assert all(ENFORCED.values())


def test_the_rules_of_the_page_are_taken() -> None:
    assert [len(parse(each.encode(), source="/shop.yaml", inside=INSIDE)) for each in BLOCKS] == [2, 2, 1]


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
