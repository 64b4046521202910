"""A certificate has the names that hold, from the moment on that they do, as long as one can be issued at all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.identity.leaves import Leaves
from agent.identity.names import NamesHeld
from agent.model.routes import Routes
from tests.identity.conftest import LeafScene, names_in, routes_of_shop
from tests.testlib.beside import beside
from tests.testlib.patience import eventually_async
from tests.testlib.samples import FIRST, SECOND, app, attachment

WEB, API = attachment(app("web"), address=FIRST), attachment(app("api"), address=SECOND)
OWN = ["0.web.shop.acme.cell.internal", "web.shop.acme.cell.internal"]
ROUTE = ["0.shop.apps.internal", "shop.apps.internal"]
MAPPED, NONE = routes_of_shop("shop.apps.internal", mapped_to="web"), NamesHeld(Routes(), {})


@contextlib.asynccontextmanager
async def renewing(leaves: Leaves, scene: LeafScene) -> AsyncIterator[None]:
    def changed() -> None:
        scene.changes += 1

    async with beside(leaves.run(changed)):
        yield


async def test_a_route_that_is_mapped_and_unmapped_comes_and_goes_and_concerns_no_other(scene: LeafScene) -> None:
    leaves = scene.leaves()
    leaves.load([WEB, API])
    api = leaves.all()["api"]
    async with renewing(leaves, scene):
        for held, names in ((MAPPED, OWN + ROUTE), (NONE, OWN), (MAPPED, OWN + ROUTE)):
            scene.held = held
            await leaves.in_step()
            assert names_in(leaves) == names
    assert leaves.all()["api"] is api
    assert scene.changes == 3


async def test_a_turn_of_the_loop_is_enough_to_have_it_issued(scene: LeafScene) -> None:
    leaves = scene.leaves()
    leaves.load([WEB])
    scene.held = MAPPED
    leaves.follow()
    assert names_in(leaves) == OWN  # not in the turn itself, which others wait for
    await scene.run_until(leaves, lambda: names_in(leaves) == OWN + ROUTE)


async def test_what_changes_nothing_for_an_instance_issues_nothing(scene: LeafScene) -> None:
    leaves = scene.leaves()
    leaves.load([WEB])
    before = leaves.all()["web"]
    scene.held = routes_of_shop("shop.apps.internal", mapped_to="db")
    async with renewing(leaves, scene):
        await leaves.in_step()
        await asyncio.sleep(0.1)
    assert leaves.all()["web"] is before


def test_an_attach_has_what_was_claimed_for_it_just_now_and_others_are_not_forgotten(scene: LeafScene) -> None:
    leaves = scene.leaves()
    leaves.load([WEB])
    scene.held = MAPPED
    leaves.ensure(replace(API, routes=("shop.apps.internal",)))
    assert names_in(leaves, "api")[2:] == ROUTE
    asyncio.run(scene.run_until(leaves, lambda: names_in(leaves) == OWN + ROUTE))


@pytest.mark.parametrize("held", [MAPPED, NONE])
def test_a_restart_keeps_a_leaf_that_has_the_names_and_issues_any_other(scene: LeafScene, held: NamesHeld) -> None:
    scene.held = MAPPED
    first = scene.leaves()
    first.load([WEB])
    scene.held = held
    again = scene.leaves()
    again.load([WEB])
    assert (again.all()["web"] == first.all()["web"]) is (held is MAPPED)
    assert names_in(again) == (OWN + ROUTE if held is MAPPED else OWN)


async def test_a_leaf_that_cannot_be_issued_is_kept_until_it_can_and_is_waited_for_by_no_command(scene: LeafScene) -> None:
    leaves = scene.leaves()
    leaves.load([WEB])
    ends, filler = leaves.not_after("web"), scene.folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    async with renewing(leaves, scene):
        scene.held = MAPPED
        async with asyncio.timeout(30):
            await leaves.in_step()
        assert "No space left" in leaves.failures["web"].what
        assert (names_in(leaves), leaves.not_after("web")) == (OWN, ends)
        filler.unlink()
        scene.now += timedelta(seconds=2)
        leaves.look()
        await eventually_async(lambda: names_in(leaves) == OWN + ROUTE)
    assert leaves.failures == {}
