"""The certificates of a cell through a full disk and a clock that is set: what can be issued is, the rest is made up for."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.errors import HostRefused
from agent.identity.keyring import HINT, Keyring
from agent.identity.leaf import validity
from agent.identity.leaves import Leaves
from ca.errors import CaRefused
from tests.identity.conftest import DAY, FACTS, NOON, LeafScene, names_in, routes_of_shop
from tests.testlib.samples import FIRST, SECOND, app, attachment

WEB, API = attachment(app("web"), address=FIRST), attachment(app("api"), address=SECOND, instance=1)


async def test_a_start_on_a_full_disk_keeps_good_leaves_reports_missing_ones_and_issues_them_later(scene: LeafScene) -> None:
    scene.leaves().load([WEB])
    filler = scene.folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    leaves = scene.leaves()
    leaves.load([WEB, API])
    assert leaves.all().keys() == {"web"}
    assert "No space left" in leaves.failures["api"].what
    (problem,) = leaves.problems()
    assert problem.what.startswith("no new certificate for api: cannot write")
    assert problem.hint == HINT
    filler.unlink()
    scene.now += timedelta(seconds=2)
    await scene.run_until(leaves, lambda: "api" in leaves.all())
    assert leaves.failures == {}
    assert scene.changes == 1


async def test_a_clock_set_back_renews_what_came_from_the_future_and_first_the_cells_own_certificate(
    scene: LeafScene,
) -> None:
    leaves = scene.leaves()
    scene.now += 60 * DAY  # the cell's certificate is due
    leaves.load([WEB])
    await scene.run_until(leaves, lambda: leaves.authorities.cell.valid.not_before > NOON + DAY)
    leaves.ensure(WEB)
    assert validity(leaves.all()["web"]).not_before > NOON + DAY
    scene.now = NOON + DAY
    await scene.run_until(leaves, lambda: validity(leaves.all()["web"]).includes(scene.now))
    assert leaves.authorities.cell.valid.includes(scene.now)
    assert leaves.failures == {}


async def test_after_a_clock_from_before_its_authorities_was_set_right_nothing_is_reported_and_nothing_renewed(
    scene: LeafScene,
) -> None:
    leaves = scene.leaves()
    leaves.load([WEB])
    before = leaves.all()
    scene.now = NOON - 5 * DAY
    await scene.run_until(leaves, lambda: leaves.failures.keys() == {"", "web"})
    scene.now = NOON + DAY / 24
    await scene.run_until(leaves, lambda: not leaves.failures)
    assert leaves.all() == before
    assert list(leaves.problems()) == []


def test_authorities_that_cannot_be_read_are_the_hosts_doing_so_that_a_start_is_tried_again(scene: LeafScene) -> None:
    def refused() -> None:
        raise CaRefused("root.crt is damaged", hint="put it back")

    with pytest.raises(HostRefused, match="is damaged"):
        Leaves(refused, keyring=Keyring(scene.folder), facts=FACTS, now=lambda: NOON)  # type: ignore[arg-type]


async def test_a_route_that_may_no_longer_be_is_in_no_certificate_and_reported(scene: LeafScene) -> None:
    scene.held = routes_of_shop("web.apps.internal", "web.former.internal")
    leaves = scene.leaves()
    leaves.load((replace(WEB, routes=("web.apps.internal", "web.former.internal")),))
    names = names_in(leaves)
    assert "web.apps.internal" in names
    assert not [name for name in names if "former" in name]
    assert [each.what for each in leaves.problems()] == [
        "web: route 'web.former.internal' is in no certificate: it lies below no route domain"
    ]


async def test_an_end_that_comes_together_with_a_new_leaf_is_an_end(scene: LeafScene) -> None:
    leaves = scene.leaves()
    leaves.load([WEB])
    running = asyncio.create_task(leaves.run(lambda: None))
    for _ in range(5):
        await asyncio.sleep(0)  # it waits by now
    leaves.ensure(API)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running}, timeout=10)
    assert running.cancelled()


async def test_what_is_issued_and_renewed_is_told_once(scene: LeafScene) -> None:
    told = list[str]()
    leaves = scene.leaves()
    leaves.report_to(told.append)
    leaves.load([WEB])
    leaves.ensure(API)
    assert told == [
        "certificates issued at the start: web", "certificate issued for api (acme/shop/api), until 2026-11-22 12:00:00",
    ]  # fmt: skip
    scene.now += DAY * 0.6
    await scene.run_until(leaves, lambda: len(told) == 3)
    assert told[2] == "certificates renewed: api, web"
    scene.now += 60 * DAY
    await scene.run_until(leaves, lambda: len(told) == 5)
    assert told[3].startswith("another certificate of the cell, or another root: until ")
