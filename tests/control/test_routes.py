"""`/v1/routes` as a user of curl sees it: mapped, listed and unmapped by the operator, and answered when that is in force."""

from pathlib import Path
from typing import Any

import pytest

from agent.errors import Unavailable
from agent.model.credentials import StoreCredentials
from agent.model.names import Space
from agent.model.routes import Routes
from tests.control.conftest import Curl
from tests.testlib.fakes.cell import FakeCell, serving
from tests.testlib.fakes.store import MemoryStore

SHOP = "/v1/routes/shop.apps.internal"
DONE = {"unmapped": True, "notices": []}
WEB, API = {"app": "acme/shop/web"}, {"app": "acme/shop/api"}


def row(
    *apps: str, host: str = "shop.apps.internal", space: str = "acme/shop", claimed: bool = False, instances: int = 0
) -> Any:
    return {"host": host, "space": space, "apps": list(apps), "claimed": claimed, "instances": instances}


def test_a_route_is_mapped_to_several_apps_of_a_space_and_unmapped_from_one_or_all(curl: Curl) -> None:
    assert curl("GET", "/v1/routes") == (200, [])
    for body in (WEB, API, WEB):
        assert curl("PUT", SHOP, body) == (200, {"host": "shop.apps.internal", **body, "notices": []})
    curl.cell.instances = {"shop.apps.internal": 3, "0.shop.apps.internal": 1}
    assert curl("GET", "/v1/routes") == (200, [row("acme/shop/api", "acme/shop/web", instances=3)])
    assert curl("DELETE", SHOP, WEB) == (200, DONE)
    assert curl("GET", "/v1/routes")[1] == [row("acme/shop/api", instances=3)]
    assert curl("DELETE", SHOP) == (200, DONE)
    assert curl("GET", "/v1/routes") == (200, [])


async def test_claims_are_listed_as_such_and_routes_by_name(curl: Curl) -> None:
    for host in ("b.apps.internal", "a.apps.internal"):
        await curl.cell.names.claim_route(host, Space("acme", "shop"))
    listed = [row(host=host, claimed=True) for host in ("a.apps.internal", "b.apps.internal")]
    assert curl("GET", "/v1/routes") == (200, listed)


@pytest.mark.parametrize(
    ("host", "body", "code", "kind", "words"),
    [
        ("shop.elsewhere.internal", WEB, 400, "InvalidInput", "lies below no route domain"),
        ("apps.internal", WEB, 400, "InvalidInput", "lies below no route domain"),
        ("web.shop.acme.cell.internal", WEB, 400, "InvalidInput", "only the apps' own names are"),
        ("*.apps.internal", WEB, 400, "InvalidInput", "a route is one name"),
        ("0.shop.apps.internal", WEB, 400, "InvalidInput", "begins with a number"),
        ("Shop.apps.internal", WEB, 400, "InvalidInput", "is not a route"),
        ("shop.apps.internal", {"app": "web"}, 400, "InvalidInput", "'web' is not an app's name"),
        ("shop.apps.internal", {}, 400, "InvalidInput", "field 'app' is missing"),
    ],
)
def test_what_can_be_no_route_is_refused(curl: Curl, host: str, body: Any, code: int, kind: str, words: str) -> None:
    got, given = curl("PUT", f"/v1/routes/{host}", body)
    assert (got, given["error"]["kind"]) == (code, kind)
    assert words in given["error"]["what"]
    assert curl("GET", "/v1/routes") == (200, [])


def test_another_spaces_route_is_a_conflict_that_names_it(curl: Curl) -> None:
    curl("PUT", SHOP, WEB)
    for host in ("shop.apps.internal", "a.shop.apps.internal"):
        code, given = curl("PUT", f"/v1/routes/{host}", {"app": "acme/other/web"})
        assert (code, given["error"]["kind"]) == (409, "Conflict")
        assert "acme/shop" in given["error"]["what"]


@pytest.mark.parametrize(("host", "body"), [("none.apps.internal", None), ("shop.apps.internal", {"app": "acme/other/api"})])
def test_what_is_not_there_cannot_be_unmapped(curl: Curl, host: str, body: Any) -> None:
    curl("PUT", SHOP, WEB)
    code, given = curl("DELETE", f"/v1/routes/{host}", body)
    assert (code, given["error"]["kind"]) == (404, "NotFound")
    assert curl("GET", "/v1/routes")[1] == [row("acme/shop/web")]


def test_an_app_that_is_like_another_is_a_notice_and_mapped_all_the_same(curl: Curl) -> None:
    curl("PUT", "/v1/attachments/web", {**WEB, "netns": "/run/netns/web"})
    mistyped = "nothing of acme/shop/wbe runs here or is named; did you mean acme/shop/web?"
    assert curl("PUT", SHOP, {"app": "acme/shop/wbe"})[1]["notices"] == [mistyped]
    assert curl("PUT", SHOP, {"app": "acme/shop/wbe"})[1]["notices"] == []  # it is named by now
    assert curl("PUT", SHOP, {"app": "acme/shop/lake"})[1]["notices"] == []  # not there yet, and like none


def test_a_route_for_which_the_apps_certificate_has_no_room_is_refused(curl: Curl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.identity.names.ROOM", 120)  # its own name and one more
    assert curl("PUT", SHOP, WEB)[0] == 200
    code, given = curl("PUT", "/v1/routes/b.apps.internal", WEB)
    assert (code, given["error"]["kind"]) == (409, "Conflict")
    assert "has no room for b.apps.internal" in given["error"]["what"]
    assert curl("GET", "/v1/routes")[1] == [row("acme/shop/web")]


def test_what_a_route_did_not_lead_to_is_not_called_unmapped(curl: Curl) -> None:
    curl("PUT", SHOP, WEB)
    assert curl("DELETE", SHOP, API) == (
        200, {"unmapped": False, "notices": ["nothing of acme/shop/api runs here or is named"]},
    )  # fmt: skip
    curl("PUT", "/v1/attachments/api", {**API, "netns": "/run/netns/api", "routes": ["shop.apps.internal"]})
    curl("PUT", "/v1/attachments/db", {"app": "acme/shop/db", "netns": "/run/netns/db"})
    assert curl("DELETE", SHOP, {"app": "acme/shop/db"})[1] == {"unmapped": False, "notices": []}
    assert curl("DELETE", SHOP, API)[1] == {"unmapped": False, "notices": []}  # it has been taken from it already
    curl("PUT", SHOP, API)
    assert curl("DELETE", SHOP, API)[1] == DONE


async def test_an_app_that_has_claimed_a_route_is_unmapped_from_it(curl: Curl) -> None:
    curl("PUT", "/v1/attachments/api", {**API, "netns": "/run/netns/api", "routes": ["shop.apps.internal"]})
    await curl.cell.names.claim_route("shop.apps.internal", Space("acme", "shop"))
    assert curl("DELETE", SHOP, API) == (200, DONE)
    assert curl("DELETE", SHOP, API)[1] == {"unmapped": False, "notices": []}


def test_an_answer_comes_when_the_change_is_in_force_and_says_why_it_is_not(curl: Curl) -> None:
    curl.cell.fails = Unavailable("the loop does not turn")
    for method, body in (("PUT", WEB), ("DELETE", None)):
        code, given = curl(method, SHOP, body)
        assert (code, given["error"]["what"]) == (503, "the loop does not turn")
    assert curl("GET", "/v1/routes") == (200, [])  # it was mapped and unmapped all the same


class WithRights(MemoryStore):
    """Keeps with which rights it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.writers = list[StoreCredentials | None]()

    async def map_route(self, host: str, app: Any, *, writer: StoreCredentials | None = None) -> None:
        self.writers.append(writer)

    async def unmap_route(self, host: str, app: Any = None, *, writer: StoreCredentials | None = None) -> None:
        self.writers.append(writer)

    def routes(self) -> Routes:
        return Routes()


def test_the_operators_rights_go_to_the_store_with_the_request_alone(tmp_path: Path) -> None:
    store = WithRights()
    cell = FakeCell(names=store)
    rights = {"store_credentials": {"username": "operator", "password": "x"}}
    with serving(cell, tmp_path / "agent.sock", group="daemon") as path:
        for method, body in (("PUT", WEB | rights), ("DELETE", rights), ("PUT", WEB)):
            assert Curl(path, cell)(method, SHOP, body)[0] == 200
    operator = StoreCredentials(username="operator", password="x")
    assert store.writers == [operator, operator, None]
