"""`cellnet target`: the space that a user works in."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Done

NONE = "no org and no space are targeted: use 'cellnet target -o ORG -s SPACE'\n"


def test_a_target_is_kept_and_shown(cellnet: Cli, home: Path) -> None:
    shown = f"org:    acme\nspace:  shop\nfrom:   {home}/cellnet/target\n"
    assert cellnet("target") == Done(0, NONE, "")
    assert json.loads(cellnet("target", "--json").out) == {"org": None, "space": None, "from": None}
    assert cellnet("target", "-o", "Acme", "-s", "Shop") == Done(0, shown, "")
    assert cellnet("target") == Done(0, shown, "")
    assert (home / "cellnet/target").read_text() == "acme/shop\n"
    found = {"org": "acme", "space": "blog", "from": f"{home}/cellnet/target"}
    assert json.loads(cellnet("target", "-s", "blog", "--json").out) == found


def test_a_space_alone_needs_an_org(cellnet: Cli) -> None:
    hint = "use 'cellnet target -o ORG -s SPACE'"
    done = cellnet("target", "-s", "shop")
    assert done == Done(1, "", f"error: no org is targeted that the space could be of; hint: {hint}\n")
    assert cellnet("target").out == NONE


@pytest.mark.usefixtures("agent")
def test_an_org_alone_means_its_only_space(cellnet: Cli) -> None:
    for app in ("acme/shop/web", "acme/shop/api", "partners/data/lake", "acme/blog/web"):
        cellnet("attach", "--app", app, "--netns", "/run/netns/x", "--name", app.replace("/", "-"))
    assert cellnet("target", "-o", "Partners").out.startswith("org:    partners\nspace:  data\n")
    name = "so there is no one space to take; hint: name it: -s SPACE\n"
    assert cellnet("target", "-o", "acme") == Done(1, "", f"error: acme has the spaces blog, shop, {name}")
    assert cellnet("target", "-o", "nobody") == Done(1, "", f"error: nothing of nobody runs here or is named, {name}")
    assert "space:  data" in cellnet("target").out, "a refusal changes nothing"


def test_what_the_environment_says_goes_before(cellnet: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLNET_SPACE", "acme/blog")
    assert cellnet("target").out == "org:    acme\nspace:  blog\nfrom:   CELLNET_SPACE\n"
    done = cellnet("target", "-o", "acme", "-s", "shop")
    assert (done.code, done.err) == (0, "warning: CELLNET_SPACE is set, and goes before it; hint: unset CELLNET_SPACE\n")
    assert "space:  blog" in done.out
    monkeypatch.delenv("CELLNET_SPACE")
    assert "space:  shop" in cellnet("target").out


@pytest.mark.parametrize("words", [("-o", "acme", "-s", "my_space"), ("-o", "acme/shop", "-s", "web")])
def test_what_is_no_name_is_not_kept(cellnet: Cli, words: tuple[str, ...]) -> None:
    assert cellnet("target", *words).code == 2
    assert cellnet("target").out == NONE


@pytest.mark.usefixtures("agent")
def test_apps_are_named_in_either_case_with_and_without_a_space(cellnet: Cli, home: Path) -> None:
    del home
    cellnet("target", "-o", "acme", "-s", "shop")
    assert cellnet("policy", "allow", "appA", "ACME/Shop/appB", "tcp/80").out == "allowed as appa-to-appb\n"
    assert cellnet("policy", "check", "appa", "AppB", "tcp/80").code == 0
    assert cellnet("apps", "--space", "Acme/Shop").code == 0
    done = cellnet("policy", "check", "appa", "İpp", "tcp/80")
    assert (done.code, done.err) == (
        2, "error: 'İpp' in 'acme/shop/İpp' is not a DNS label; hint: use a-z, 0-9 and inner hyphens, 63 at most\n",
    )  # fmt: skip
