"""`GET /v1/apps`: every app of all cells, those of a space, or one; `/v1/spaces`: those that are yet to come."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from agent.control.api.apps import AppsApi
from agent.model.app_port import AppPort
from agent.model.cell import Endpoint
from tests.control.conftest import Curl
from tests.testlib.samples import API, FIRST, SECOND, WEB, app, attachment

WEB_BODY = {"app": "acme/shop/web", "netns": "/run/netns/web"}
ELSEWHERE = Endpoint("two", "api", API, 0, IPv4Address("10.255.2.2"), ports=(AppPort(8080), AppPort(53, "udp")), ready=False)


def test_an_app_has_its_instances_on_all_cells(curl: Curl) -> None:
    curl("PUT", "/v1/attachments/w", {**WEB_BODY, "ports": [80], "instance": 1})
    curl.cell.elsewhere = [ELSEWHERE]
    for each in (API, app("db")):
        curl("PUT", "/v1/routes/api.apps.internal", {"app": str(each)})
    code, apps = curl("GET", "/v1/apps")
    assert code == 200
    assert [each["app"] for each in apps] == ["acme/shop/api", "acme/shop/db", "acme/shop/web"]
    api, db, web = apps
    assert api["instances"] == [
        {"instance": 0, "cell": "two", "name": "api", "address": "10.255.2.2", "ports": [8080, "53/udp"],
         "routes": ["api.apps.internal"], "ready": False}
    ]  # fmt: skip
    assert (api["routes"], db) == (
        ["api.apps.internal"],
        {"app": "acme/shop/db", "routes": ["api.apps.internal"], "instances": []},
    )
    assert [(each["cell"], each["name"], each["instance"]) for each in web["instances"]] == [("one", "w", 1)]


def test_an_app_that_only_a_policy_names_is_there_too(curl: Curl) -> None:
    curl("POST", "/v1/policies/allow", {"from": "acme/shop/web", "to": "acme/blog/db", "ports": ["tcp/5432"]})
    assert [each["app"] for each in curl("GET", "/v1/apps")[1]] == ["acme/blog/db", "acme/shop/web"]
    assert [each["app"] for each in curl("GET", "/v1/apps?space=acme/blog")[1]] == ["acme/blog/db"]
    assert [each["app"] for each in curl("GET", "/v1/apps?app=acme/shop/web")[1]] == ["acme/shop/web"]


@pytest.mark.parametrize(
    ("query", "code", "what"),
    [
        ("app=acme/shop/wbe", 404, "nothing of acme/shop/wbe runs here or is named; did you mean acme/shop/web?"),
        ("app=web", 400, "'web' is not an app's name"),
        ("space=acme", 400, "'acme' is not a space's name"),
        ("name=web", 400, "the query has name"),
        ("app=acme/shop/web&space=acme/shop", 400, "the query has app, space"),
    ],
)
def test_what_is_not_there_or_makes_no_sense_is_named(curl: Curl, query: str, code: int, what: str) -> None:
    curl("PUT", "/v1/attachments/w", WEB_BODY)
    found, answer = curl("GET", f"/v1/apps?{query}")
    assert (found, answer["error"]["what"]) == (code, what)


def test_of_its_own_instances_a_cell_knows_more_than_it_has_published() -> None:
    here, mine = attachment(WEB, address=FIRST), Endpoint("one", "web", WEB, 0, FIRST)
    there, old = Endpoint("two", "web", WEB, 1, IPv4Address("10.255.2.2")), Endpoint("one", "gone", WEB, 2, SECOND)
    scene: Any = Scene([here], [mine, there, old])
    api = AppsApi("one", attaching=scene, is_ready=lambda held: held is not here, cells=scene, routes=scene, known=scene)
    assert [(each.cell, each.name, each.ready) for each in api.instances()[WEB]] == [
        ("one", "web", False),
        ("two", "web", True),
    ]


def test_apps_of_a_space_are_declared_listed_and_forgotten(curl: Curl) -> None:
    curl("PUT", "/v1/attachments/w", WEB_BODY)
    shown = {"space": "acme/shop", "apps": ["app-2", "app-10", "web"], "declared": ["app-2", "app-10"]}
    assert curl("PUT", "/v1/spaces/acme/shop", {"apps": ["app-10", "app-2"]}) == (200, shown)
    assert curl("PUT", "/v1/spaces/acme/blog", {"apps": ["web"]})[0] == 200
    blog = {"space": "acme/blog", "apps": ["web"], "declared": ["web"]}
    assert curl("GET", "/v1/spaces") == (200, [blog, shown])
    assert curl("PUT", "/v1/spaces/acme/blog", {"apps": []}) == (200, {"space": "acme/blog", "apps": [], "declared": []})
    assert [each["app"] for each in curl("GET", "/v1/apps")[1]] == ["acme/shop/app-10", "acme/shop/app-2", "acme/shop/web"]


@pytest.mark.parametrize(
    ("place", "apps", "what"),
    [
        ("acme/shop", ["web", "Db"], "'Db' in 'acme/shop/Db' is not a DNS label"),
        ("acme/sh*p", ["web"], "'sh*p' in 'acme/sh*p' is not a DNS label"),
        ("acme/shop", ["web", "web"], "an app is named twice"),
        ("acme/shop", ["acme/shop/web"], "'acme/shop/acme/shop/web' is not an app's name"),
    ],
)
def test_what_is_no_app_of_the_space_is_not_declared(curl: Curl, place: str, apps: list[str], what: str) -> None:
    code, answer = curl("PUT", f"/v1/spaces/{place}", {"apps": apps})
    assert (code, answer["error"]["what"]) == (400, what)
    assert curl.cell.declared == frozenset()


class Scene:
    """What a cell has attached, and what all have published."""

    def __init__(self, here: list[Any], published: list[Endpoint]) -> None:
        self._here, self._published = here, published

    def attached(self) -> tuple[Any, ...]:
        return tuple(self._here)

    def endpoints(self) -> dict[IPv4Address, Endpoint]:
        return {each.address: each for each in self._published}
