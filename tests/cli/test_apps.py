"""Apps on the command line: the list of them, short names, and what the shell completes."""

import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.cli.current_space import current_space, keep_space, target_file
from agent.errors import HostRefused, InvalidInput
from agent.model.app_port import AppPort
from agent.model.cell import Endpoint
from agent.model.names import Space
from agent.policy.language.documents import written
from tests.cli.conftest import Cli, Done, completed
from tests.testlib.fakes.cell import FakeCell
from tests.testlib.samples import API

SHOP = Space("acme", "shop")


def attach(cellnet: Cli, name: str, *words: str) -> None:
    assert cellnet("attach", "--app", name, "--netns", "/run/netns/x", *words).code == 0


@pytest.fixture
def shop(agent: Path, cell: FakeCell, cellnet: Cli) -> FakeCell:
    """web runs here, api elsewhere, and a route leads to db, which runs nowhere."""
    del agent
    cell.elsewhere = [Endpoint("two", "api-7", API, 1, IPv4Address("10.255.2.2"), ports=(AppPort(53, "udp"),), ready=False)]
    cellnet("route", "map", "acme/shop/db", "db.apps.internal")
    attach(cellnet, "acme/shop/web", "--port", "8080")
    attach(cellnet, "acme/blog/web", "--name", "blog")
    return cell


@pytest.mark.usefixtures("shop")
def test_apps_are_listed_with_their_instances_on_all_cells(cellnet: Cli) -> None:
    assert cellnet("apps").out == (
        "APP            INSTANCE  CELL  ADDRESS     PORTS   ROUTES            READY\n"
        "acme/blog/web  0         one   10.255.1.3  -       -                 yes\n"
        "acme/shop/api  1         two   10.255.2.2  53/udp  -                 no\n"
        "acme/shop/db   -         -     -           -       db.apps.internal  -\n"
        "acme/shop/web  0         one   10.255.1.2  8080    -                 yes\n"
    )
    assert [line.split()[0] for line in cellnet("apps", "--space", "acme/blog").out.splitlines()[1:]] == ["acme/blog/web"]
    (found,) = json.loads(cellnet("apps", "acme/shop/api", "--json").out)
    assert (found["app"], found["instances"][0]["cell"]) == ("acme/shop/api", "two")
    missing = "error: nothing of acme/shop/wbe runs here or is named; did you mean acme/shop/web?; hint: see 'cellnet apps'\n"
    assert cellnet("apps", "acme/shop/wbe") == Done(1, "", missing)
    assert cellnet("apps", "acme/shop/api", "--space", "acme/shop").code == 2


@pytest.mark.usefixtures("shop")
def test_ps_lists_the_instances_of_all_cells_if_asked(cellnet: Cli) -> None:
    assert cellnet("ps", "--all").out == (
        "CELL  NAME   APP            INSTANCE  ADDRESS     PORTS   ROUTES  READY\n"
        "one   blog   acme/blog/web  0         10.255.1.3  -       -       yes\n"
        "one   web    acme/shop/web  0         10.255.1.2  8080    -       yes\n"
        "two   api-7  acme/shop/api  1         10.255.2.2  53/udp  -       no\n"
    )
    last = json.loads(cellnet("ps", "--all", "--json").out)[-1]
    assert (last["app"], last["cell"], last["name"]) == ("acme/shop/api", "two", "api-7")


def test_a_name_that_nothing_has_is_a_notice_and_no_refusal(shop: FakeCell, cellnet: Cli) -> None:
    notice = "nothing of acme/shop/wbe runs here or is named; did you mean acme/shop/web?"
    done = cellnet("policy", "allow", "acme/shop/wbe", "acme/shop/api", "tcp/80")
    assert done == Done(0, "allowed as wbe-to-api\n", f"warning: {notice}\n")
    shop.rules.clear()
    shown = cellnet("policy", "allow", "acme/shop/wbe", "acme/shop/api", "tcp/80", "--json").out
    assert json.loads(shown)["notices"] == [notice]
    shop.rules.clear()
    done = cellnet("policy", "check", "acme/shop/web", "acme/shop/ap", "tcp/80")
    assert (done.code, done.out) == (1, "denied\n")
    assert done.err == "warning: nothing of acme/shop/ap runs here or is named; did you mean acme/shop/api?\n"
    assert cellnet("policy", "allow", "acme/blog/*", "acme/shop/*", "tcp/80").err == ""


def test_a_spaces_apps_are_listed_and_declared(shop: FakeCell, cellnet: Cli) -> None:
    assert cellnet("space", "acme/shop", "--apps", "Db, cache").out == (
        "SPACE      APPS                 DECLARED HERE\nacme/shop  api, cache, db, web  cache, db\n"
    )
    assert cellnet("space").out == (
        "SPACE      APPS                 DECLARED HERE\n"
        "acme/blog  web                  -\n"
        "acme/shop  api, cache, db, web  cache, db\n"
    )
    assert [each["space"] for each in json.loads(cellnet("space", "acme/blog", "--json").out)] == ["acme/blog"]
    cellnet("space", "acme/shop", "--apps", "")
    assert shop.declared == frozenset()
    assert cellnet("space", "--apps", "db").code == 2


# short names


def test_a_name_without_a_space_is_of_the_current_one(shop: FakeCell, cellnet: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLNET_SPACE", "acme/shop")
    attach(cellnet, "cache")
    assert shop.views["cache"].app == "acme/shop/cache"
    assert cellnet("apps", "api").out.count("acme/shop/api") == 1
    assert cellnet("policy", "allow", "web", "acme/blog/web", "tcp/80").code == 0
    assert cellnet("policy", "check", "web", "acme/blog/web", "tcp/80").code == 0
    assert cellnet("policy", "delete", "web", "acme/blog/web", "tcp/80").code == 0
    assert cellnet("policy", "allow", "*", "web", "tcp/80").code == 0
    assert written(shop.rules[0].sources) == ["acme/shop/*"]


@pytest.mark.usefixtures("shop")
def test_the_variable_wins_over_what_the_user_has_kept(cellnet: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_space(Space("acme", "blog")) == home / "cellnet/target"
    assert cellnet("apps", "web", "--json").out.count('"acme/blog/web"') == 1
    monkeypatch.setenv("CELLNET_SPACE", "acme/shop")
    assert current_space() == SHOP
    monkeypatch.setenv("CELLNET_SPACE", "")
    assert current_space() == Space("acme", "blog")


def test_what_is_kept_is_one_line_in_the_users_own_folder(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert current_space() is None
    keep_space(SHOP)
    keep_space(SHOP)
    assert (home / "cellnet/target").read_text() == "acme/shop\n"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert target_file() == tmp_path / ".config/cellnet/target"


def test_without_a_space_a_short_name_says_how_to_set_one(cellnet: Cli) -> None:
    words = (
        "error: 'web' is not an app's name; hint: write org/space/app, or choose a space by 'cellnet target -o ORG -s SPACE'\n"
    )
    for command in (("apps", "web"), ("policy", "check", "web", "a/b/c", "tcp/1"), ("run", "--app", "web", "--", "true")):
        assert cellnet(*command) == Done(2, "", words)


@pytest.mark.parametrize("word", ["*", "any", "all"])
def test_who_means_everything_is_told_how_to_write_it(cellnet: Cli, word: str) -> None:
    hint = "write org/space/* for all apps of a space, 0.0.0.0/0 for all of the outside"
    done = cellnet("policy", "allow", "acme/shop/web", word, "tcp/443")
    assert done == Done(2, "", f"error: '{word}' is not an app's name; hint: {hint}\n")


def test_a_target_that_makes_no_sense_is_named_with_its_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_space(SHOP)
    (home / "cellnet/target").write_text("acme\n")
    with pytest.raises(InvalidInput, match=f"^{home}/cellnet/target: 'acme' is not a space's name$"):
        current_space()
    monkeypatch.setenv("CELLNET_SPACE", "a/b_")
    with pytest.raises(InvalidInput, match=r"^CELLNET_SPACE: 'b_' in 'a/b_' is not a DNS label$"):
        current_space()
    monkeypatch.delenv("CELLNET_SPACE")
    (home / "cellnet/target").unlink()
    (home / "cellnet/target").mkdir()
    with pytest.raises(HostRefused, match="cannot read"):
        current_space()


# completion


@pytest.mark.parametrize("words", ["apps ", "run --app ", "attach --app ", "policy allow ", "policy check acme/shop/web "])
@pytest.mark.usefixtures("shop")
def test_apps_are_completed_wherever_one_is_named(agent: Path, words: str) -> None:
    assert completed(agent, f"{words}acme/shop/") == ["acme/shop/api", "acme/shop/db", "acme/shop/web"]
    assert completed(agent, f"{words}w", CELLNET_SPACE="acme/shop") == ["web"]


def test_without_an_agent_nothing_is_completed(tmp_path: Path) -> None:
    assert completed(tmp_path, "apps a") == []
