"""Names by templates that two apps could share: claimed beside the loop, until they are, and the loser is told."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from agent.attach.name_claims import NameClaims
from agent.config.config import Dns
from agent.config.name_templates import NameTemplate
from agent.errors import Unavailable
from agent.identity.names import NamesHeld, Naming
from agent.model.attachment import Attachment
from agent.model.names import AppName
from tests.testlib.beside import beside
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.patience import eventually_async
from tests.testlib.samples import FIRST, SECOND, app, attachment

WEB, OTHER = app("web"), AppName("acme", "other", "web")
TEMPLATES = tuple(map(NameTemplate.parse, ("{app}.{space}.cpln.local", "{app}.flat.example", "{app}.{space}.{org}.x.example")))


class Unreliable(MemoryStore):
    """One that cannot be reached while it is `away`."""

    away = False

    async def claim_names(self, names: Mapping[str, AppName]) -> None:
        if self.away:
            raise Unavailable("no answer")
        await super().claim_names(names)


def claims(store: MemoryStore) -> NameClaims:
    return NameClaims(Naming(Dns(names=TEMPLATES), lambda: NamesHeld(store.routes(), store.claimed_names())), store)


def at(of: AppName, name: str, *, routes: tuple[str, ...] = ()) -> Attachment:
    return replace(attachment(of, address=FIRST if of == WEB else SECOND, name=name), routes=routes)


async def test_what_is_attached_claims_the_names_that_it_would_share_and_no_others() -> None:
    store = Unreliable()
    made = claims(store)
    async with beside(made.run()):
        made.follow((at(WEB, "web"),))
        await eventually_async(lambda: store.claimed_names() == {"web.shop.cpln.local": WEB, "web.flat.example": WEB})
    assert list(made.problems()) == []


async def test_a_name_is_that_of_the_app_that_had_it_first_and_the_other_is_told() -> None:
    store = Unreliable()
    first, second = claims(store), claims(store.beside())
    async with beside(first.run()), beside(second.run()):
        first.follow((at(OTHER, "other"),))
        await eventually_async(lambda: "web.flat.example" in store.claimed_names())
        second.follow((at(WEB, "web"),))
        await eventually_async(lambda: "web.shop.cpln.local" in store.claimed_names())
    assert store.claimed_names()["web.flat.example"] == OTHER
    second.follow((at(WEB, "web"),))
    assert [(each.area, each.what) for each in second.problems()] == [
        ("dns", "acme/shop/web is not called web.flat.example, which is the name of acme/other/web: that had it first")
    ]
    assert list(first.problems()) == []


async def test_of_two_apps_of_one_cell_the_first_by_name_has_it() -> None:
    store = Unreliable()
    made = claims(store)
    async with beside(made.run()):
        made.follow((at(WEB, "web"), at(OTHER, "other")))
        await eventually_async(lambda: "web.flat.example" in store.claimed_names())
    assert store.claimed_names()["web.flat.example"] == OTHER


async def test_a_claim_that_fails_is_repeated_until_it_holds() -> None:
    store = Unreliable()
    store.away = True
    made = claims(store)
    async with beside(made.run()):
        made.follow((at(WEB, "web"),))
        await asyncio.sleep(0.3)
        store.away = False
        await eventually_async(lambda: store.claimed_names().get("web.flat.example") == WEB)


async def test_a_name_that_the_operator_frees_goes_to_what_runs() -> None:
    store = Unreliable()
    made = claims(store)
    await store.claim_names({"web.flat.example": OTHER})
    async with beside(made.run()):
        made.follow((at(WEB, "web"),))
        await eventually_async(lambda: "web.shop.cpln.local" in store.claimed_names())
        await store.unmap_route("web.flat.example")
        made.follow((at(WEB, "web"),))
        await eventually_async(lambda: store.claimed_names().get("web.flat.example") == WEB)


async def test_a_route_that_an_attachment_has_lost_is_a_problem_but_not_where_the_operator_took_it() -> None:
    store = Unreliable()
    made = claims(store)
    for host in ("free.apps.internal", "taken.apps.internal", "lost.apps.internal"):
        await store.map_route(host, WEB if host != "lost.apps.internal" else OTHER)
    await store.unmap_route("free.apps.internal")
    await store.unmap_route("taken.apps.internal", WEB)
    made.follow((at(WEB, "web", routes=("free.apps.internal", "taken.apps.internal", "lost.apps.internal")),))
    assert [each.what for each in made.problems()] == [
        "web: the route free.apps.internal, with which it was attached, is mapped to no app",
        "web: the route lost.apps.internal, with which it was attached, belongs to acme/other",
    ]


async def test_names_that_a_certificate_has_no_room_for_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    made = claims(store)
    for host in ("a.apps.internal", "b.apps.internal"):
        await store.map_route(host, WEB)
    made.follow((at(WEB, "web"),))
    assert list(made.problems()) == []
    full = sum(2 * (len(name) + 6) for name in ("web.shop.acme.cell.internal", "web.shop.acme.x.example", "a.apps.internal"))
    monkeypatch.setattr("agent.identity.names.ROOM", full)
    (problem,) = made.problems()
    assert problem.what == "web is not called b.apps.internal: its certificate has no room for so many names"
