"""`dns.names`: what is refused at the start, with its place, since it would give two apps or instances one name."""

from pathlib import Path

import pytest

from agent.config.config import Dns
from agent.config.load import load
from agent.config.name_templates import OWN, NameTemplate
from agent.config.problems import InvalidSource
from tests.config.test_load import loaded, mistakes

WORDS = {"app": "web", "space": "shop", "org": "acme", "domain": "cell.internal"}


def names(folder: Path, *templates: str, **dns: str) -> Dns:
    return loaded(folder, config(*templates, **dns)).dns


def config(*templates: str, **dns: str) -> str:
    more = "".join(f", {key}: {value}" for key, value in dns.items())
    return "dns: {names: [" + ", ".join(f"'{each}'" for each in templates) + "]" + more + "}\n"


def test_templates_give_each_app_a_name_and_the_domains_that_are_ours(tmp_path: Path) -> None:
    dns = names(tmp_path, "{app}.{space}.cpln.local", "{app}.svc.{org}.{space}.example.org")
    assert [each.name(**WORDS) for each in dns.templates] == [
        "web.shop.acme.cell.internal", "web.shop.cpln.local", "web.svc.acme.shop.example.org",
    ]  # fmt: skip
    assert [each.is_shared for each in dns.templates] == [False, True, False]
    assert dns.zones == ("cell.internal", "apps.internal", "cpln.local", "example.org")


def test_every_app_has_its_own_name_whatever_is_configured(tmp_path: Path) -> None:
    assert names(tmp_path).templates == (OWN,)
    assert names(tmp_path, OWN.text).templates == (OWN,)
    assert names(tmp_path, "{app}.x.example", OWN.text).templates == (OWN, NameTemplate.parse("{app}.x.example"))
    assert load(tmp_path / "none.yaml", root=None, hostname="host").dns.zones == ("cell.internal", "apps.internal")


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{app}.{spce}.cpln.local", "'{app}.{spce}.cpln.local' has an unknown placeholder {spce}"),
        ("{app}.{index}.cpln.local", "'{app}.{index}.cpln.local' has an unknown placeholder {index}"),
        ("{app}.{}.cpln.local", "'{app}.{}.cpln.local' has an unknown placeholder {}"),
        ("{app}-{space}.cpln.local", "'{app}-{space}' in '{app}-{space}.cpln.local' is more than a placeholder"),
        ("x{app}.cpln.local", "'x{app}' in 'x{app}.cpln.local' is more than a placeholder"),
        ("{app}.a_b.local", "'a_b' in '{app}.a_b.local' is not a DNS label"),
        ("{app}..local", "'' in '{app}..local' is not a DNS label"),
        ("{app}.LOCAL", "'LOCAL' in '{app}.LOCAL' is not a DNS label"),
        ("*.{app}.local", "'*' in '*.{app}.local' is not a DNS label"),
        ("{space}.cpln.local", "'{space}.cpln.local' gives all apps one name: it has no {app}"),
        ("{app}.{app}.local", "'{app}.{app}.local' has {app} twice"),
        ("{app}.{space}", "'{app}.{space}' does not end in a domain"),
        ("{app}.{domain}.local", "'{app}.{domain}.local' does not end in a domain"),
        ("0.{app}.local", "'0.{app}.local' begins with a number, as instances' names do"),
        ("{app}." + "a." * 120 + "local", "has more than 200 characters"),
    ],
)
def test_what_is_no_template_is_refused_where_it_stands(tmp_path: Path, template: str, what: str) -> None:
    assert [each for each in mistakes(tmp_path, config(OWN.text, template)) if what in each and each.startswith("1:")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (OWN.text, "{app}.{org}.{space}.{domain}"),  # web of shop/acme is web of acme/shop
        (OWN.text, "{app}.{space}.{domain}"),  # an instance of web is an app called 0
        (OWN.text, "{app}.svc.{domain}"),  # so is one of an app in the org `svc`
        (OWN.text, "{app}.{space}.{org}.cell.internal"),  # the same, written out
        ("{app}.{space}.a.example", "{app}.x.a.example"),
        ("{app}.{space}.a.example", "{app}.a.example"),
        ("{app}.7.a.example", "{app}.{space}.a.example"),
        ("a.{app}.b.example", "{app}.{space}.b.example"),
        ("x.{app}.a.example", "{app}.7.a.example"),
    ],
)
def test_two_templates_that_can_give_one_name_are_refused_whichever_comes_first(tmp_path: Path, one: str, other: str) -> None:
    for first, second in ((one, other), (other, one)):
        found = mistakes(tmp_path, config(first, second))
        blamed, before = (other, one) if one == OWN.text else (second, first)
        assert any(f"'{blamed}' can give the name that '{before}' gives to another app or instance" in each for each in found)


def test_templates_whose_names_differ_in_one_label_stand_side_by_side(tmp_path: Path) -> None:
    several = ("{app}.{space}.a.example", "{app}.{space}.b.example", "{app}.x.{space}.{org}.c.example", "x.y.{app}.a.example")
    assert len(names(tmp_path, *several).templates) == 5


def test_an_index_before_a_name_is_a_number_and_nothing_else(tmp_path: Path) -> None:
    assert names(tmp_path, "{app}.a.example", "x.{app}.a.example")  # no index is `x`
    found = mistakes(tmp_path, config("{app}.a.example", "{space}.{app}.a.example"))
    assert found == [
        "1:34: '{space}.{app}.a.example' can give the name that '{app}.a.example' gives to another app or instance"
    ]


@pytest.mark.parametrize(
    ("template", "domains", "below"),
    [
        ("{app}.{space}.apps.internal", "[apps.internal]", "apps.internal"),
        ("{app}.apps.internal", "[apps.internal]", "apps.internal"),
        ("{app}.{space}.cpln.local", "[local]", "local"),
        ("{app}.{space}.cpln.local", "[shop.cpln.local]", "shop.cpln.local"),
        ("{app}.cpln.local", "[web.cpln.local]", "web.cpln.local"),  # 0.web.cpln.local is a route below it, too
    ],
)
def test_a_template_whose_names_could_be_routes_is_refused(tmp_path: Path, template: str, domains: str, below: str) -> None:
    found = mistakes(tmp_path, config(template, route_domains=domains))
    assert found == [f"1:15: '{template}' gives names below {below}, where only routes are"]


def test_no_route_is_in_the_apps_own_domain_so_a_template_may_be(tmp_path: Path) -> None:
    assert len(names(tmp_path, "a.b.{app}.x.{domain}", route_domains="[internal]").templates) == 2
    assert names(tmp_path, "{app}.cpln.local", route_domains="[a.b.cpln.local]")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{app}.255.10.in-addr.arpa", "arpa, where addresses have their names"),
        ("{app}.{space}.arpa", "arpa, where addresses have their names"),
        ("{app}.cellnet.invalid", "invalid, where by its definition no name exists"),
        ("{app}.{org}.localhost", "localhost, which is each computer itself"),
    ],
)
def test_a_template_in_a_domain_that_means_something_else_is_refused(tmp_path: Path, template: str, why: str) -> None:
    assert mistakes(tmp_path, config(template)) == [f"1:15: '{template}' ends in {why}"]


def test_a_template_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, config("{app}.a.example", "{app}.a.example")) == ["1:34: '{app}.a.example' is there twice"]


def test_braces_without_quotes_are_answered_with_advice(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource) as caught:
        loaded(tmp_path, "dns:\n  names: [{app}]\n")
    assert "hint: put it in quotes" in str(caught.value)


@pytest.mark.parametrize(("text", "found"), [("auto", None), ("true", True), ("false", False)])
def test_whether_an_attach_may_claim_a_route_is_configured(tmp_path: Path, text: str, found: bool | None) -> None:
    assert loaded(tmp_path, f"routes: {{claim_at_attach: {text}}}\n").routes.claim_at_attach is found
