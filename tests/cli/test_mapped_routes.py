"""cf's words for routes: the same routes as those of `cellnet route`, seen by other commands."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Done, completed
from tests.testlib.fakes.cell import FakeCell

HOST, DOMAIN = "backend.apps.internal", "apps.internal"

pytestmark = pytest.mark.usefixtures("agent")


@pytest.fixture(autouse=True)
def targeted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The space that names without one are of."""
    monkeypatch.setenv("CELLNET_SPACE", "acme/shop")


@pytest.mark.parametrize("name", [(DOMAIN, "--hostname", "backend"), ("Apps.internal", "-n", "Backend"), (HOST,)])
def test_what_one_command_maps_the_other_unmaps(cellnet: Cli, cell: FakeCell, name: tuple[str, ...]) -> None:
    assert cellnet("map-route", "Web", *name) == Done(0, f"{HOST} leads to acme/shop/web\nOK\n", "")
    assert cellnet("map-route", "Web", *name).code == 0
    (route,) = json.loads(cellnet("route", "list", "--json").out)
    assert (route["host"], route["apps"]) == (HOST, ["acme/shop/web"])
    cellnet("route", "map", "api", HOST)
    assert cellnet("unmap-route", "web", *name) == Done(0, f"{HOST} no longer leads to acme/shop/web\nOK\n", "")
    assert [str(each) for each in cell.names.routes()[HOST].apps] == ["acme/shop/api"]
    assert cellnet("unmap-route", "api", *name).code == 0
    assert str(cell.names.routes()[HOST].space) == "acme/shop", "as in cf the name stays the space's"


def test_routes_are_printed_as_json(cellnet: Cli) -> None:
    made = cellnet("map-route", "web", DOMAIN, "--hostname", "backend", "--json")
    assert json.loads(made.out) == {"host": HOST, "app": "acme/shop/web", "notices": []}
    assert json.loads(cellnet("unmap-route", "web", DOMAIN, "--hostname", "backend", "--json").out)["unmapped"]


def test_what_cannot_be_says_why(cellnet: Cli) -> None:
    done = cellnet("map-route", "web", DOMAIN)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: 'apps.internal' lies below no route domain; hint: write a name below apps.internal")
    cellnet("map-route", "web", HOST)
    done = cellnet("map-route", "acme/blog/web", HOST)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: the route {HOST} belongs to acme/shop; hint: ")
    assert cellnet("unmap-route", "acme/blog/web", HOST).code == 1
    assert cellnet("unmap-route", "web", DOMAIN, "-n", "frontend").err.startswith("error: there is no route 'frontend.")
    assert cellnet("map-route", "web", HOST, "--path", "/x").err.startswith("error: No such option")


def test_the_operators_rights_go_with_the_request(cellnet: Cli, tmp_path: Path) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text("username: operator\npassword: secret\n")
    file.chmod(0o600)
    rights = ("--store-credentials", str(file))
    refused = "this cell's store is a file of its own, which asks for no credentials"
    assert refused in cellnet("map-route", "web", HOST, *rights).err
    cellnet("map-route", "web", HOST)
    assert refused in cellnet("unmap-route", "web", HOST, *rights).err


def test_apps_domains_and_hosts_are_completed(agent: Path, cellnet: Cli, tmp_path: Path) -> None:
    (tmp_path / "etc/cellnet").mkdir(parents=True)
    (tmp_path / "etc/cellnet/agent.yaml").write_text("dns: {route_domains: [apps.internal, acme.test]}\n")
    cellnet("attach", "--app", "web", "--netns", "/run/netns/x")
    for app, host in (("web", HOST), ("api", "api.apps.internal"), ("api", "shop.api.apps.internal")):
        cellnet("map-route", app, host)
    assert completed(agent, "map-route W") == ["web"]
    assert completed(agent, "map-route web a") == ["acme.test", "apps.internal"]
    assert completed(agent, "unmap-route web Apps.internal --hostname ") == ["api", "backend", "shop.api"]
    assert completed(agent, "unmap-route web apps.internal -n B") == ["backend"]
    assert completed(agent, "unmap-route web acme.test -n ") == []
