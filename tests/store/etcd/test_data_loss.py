"""What is left when etcd's data is lost: all that was in force, on every cell, until it is written anew or given up."""

import contextlib
import json
from collections.abc import Callable
from ipaddress import IPv4Network

import pytest

from agent.errors import InvalidInput, Unavailable
from agent.model.names import AppName
from agent.store.protocols import StoredPolicy
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.data_loss import NOW, LossyEtcd, StoreWithDisk

WEB, API, DB, NEW = app("web"), app("api"), app("db"), app("new")
NETWORK = IPv4Network("10.255.0.0/16")
RECORD = '{"id": "1", "subnet": "10.255.1.0/24", "underlay": "192.0.2.1", "version": "1"}'
Cells = Callable[[str], StoreWithDisk]


async def claimed(cell: StoreWithDisk, *apps: AppName) -> dict[AppName, int]:
    """One after the other, which are other numbers than they would get all at once."""
    return {each: (await cell.store.claim_tags([each], now=NOW))[each] for each in apps}


async def test_a_loss_of_all_data_takes_no_policy_and_no_tag_away(lossy: LossyEtcd, cells: Cells) -> None:
    one, two = cells("one"), cells("two")
    await one.store.apply_policies([StoredPolicy("a", "1"), StoredPolicy("b", "1")])
    tags = await claimed(one, WEB, API)
    await two.has(a="1", b="1")
    for each in (one, two):
        each.watch("a", "b")
    before = [each.store.mirror.data for each in (one, two)]
    lossy.lose()
    for each, data in zip((one, two), before, strict=True):
        await each.recovered(data)
        assert await each.documents() == {"a": "1", "b": "1"}
        assert await each.tags() == tags
        assert "2 policies are held as they were known here: a, b" in each.told()
        assert each.flaps == []
    fresh = cells("three")
    await fresh.well()
    assert await fresh.tags() == tags
    assert await fresh.documents() == {}
    assert (await fresh.store.claim_tags([NEW], now=NOW))[NEW] == 3


async def test_a_held_policy_is_the_operators_again_once_it_is_applied_deleted_or_given_up(
    lossy: LossyEtcd, cells: Cells
) -> None:
    one, two = cells("one"), cells("two")
    await one.store.apply_policies([StoredPolicy(name, "1") for name in "abcd"])
    await two.has(a="1", b="1", c="1", d="1")
    before = [each.store.mirror.data for each in (one, two)]
    lossy.lose()
    for each, data in zip((one, two), before, strict=True):
        await each.recovered(data)
    await one.store.apply_policies([StoredPolicy("a", "2")])
    await two.has(a="2", b="1", c="1", d="1")
    await two.store.delete_policy("b")
    await one.has(a="2", c="1", d="1")
    await one.store.delete_policy("a")
    await two.has(c="1", d="1")
    with pytest.raises(InvalidInput):
        await one.store.delete_policy("a")
    assert await two.store.accept_loss() == ("c", "d")
    for each in (one, two):
        await each.has()
        assert each.told() == ""


async def test_what_is_held_outlives_the_agent_and_what_was_given_up_meanwhile_goes(lossy: LossyEtcd, cells: Cells) -> None:
    one, two = cells("one"), cells("two")
    await one.store.apply_policies([StoredPolicy("a", "1"), StoredPolicy("b", "1")])
    await two.has(a="1", b="1")
    before = [each.store.mirror.data for each in (one, two)]
    lossy.lose()
    for each, data in zip((one, two), before, strict=True):
        await each.recovered(data)
    await two.stop()
    two.start()
    assert await two.documents() == {"a": "1", "b": "1"}
    await two.well()
    assert "2 policies are held" in two.told()
    assert await two.documents() == {"a": "1", "b": "1"}
    await two.stop()
    await one.store.apply_policies([StoredPolicy("a", "2")])
    await one.store.accept_loss()
    assert await two.start().documents() == {"a": "1", "b": "1"}
    await two.has(a="2")
    assert two.told() == ""


async def test_a_loss_while_the_agent_was_down_is_seen_though_the_revision_has_passed(lossy: LossyEtcd, cells: Cells) -> None:
    one, two = cells("one"), cells("two")
    await one.store.apply_policies([StoredPolicy("a", "1"), StoredPolicy("b", "1")])
    await two.has(a="1", b="1")
    known = two.store.mirror.copy.revision
    await two.stop()
    await one.stop()
    lossy.lose()
    one.start()
    await eventually_async(lambda: "2 policies are held" in one.told())
    for number in range(known + 5):
        lossy.ctl("put", "/elsewhere", str(number))
    await one.store.apply_policies([StoredPolicy("b", "2")])
    assert one.store.mirror.copy.revision > known
    two.start()
    two.watch("a", "b")
    await two.has(a="1", b="2")
    await two.well()
    assert "1 policies are held" in two.told()
    assert two.flaps == []


async def test_the_same_is_seen_of_older_data_in_the_same_cluster(lossy: LossyEtcd, cells: Cells) -> None:
    one, two = cells("one"), cells("two")
    await one.store.apply_policies([StoredPolicy("old", "1"), StoredPolicy("gone", "1")])
    lossy.keep_copy()
    await one.well()
    await one.store.delete_policy("gone")
    await one.store.apply_policies([StoredPolicy("old", "2"), StoredPolicy("new", "1")])
    tags = dict(await one.store.claim_tags([WEB], now=NOW))
    await two.has(new="1", old="2")
    await two.stop()
    before = one.store.mirror.data
    lossy.put_copy_back()
    await one.recovered(before)
    assert await one.documents() == {"new": "1", "old": "2"}
    for number in range(20):
        lossy.ctl("put", "/elsewhere", str(number))
    await one.store.claim_tags([API], now=NOW)
    two.start()
    two.watch("new", "old")
    await eventually_async(lambda: "3 policies are held" in two.told())
    assert await two.documents() == {"new": "1", "old": "2"}
    assert await two.tags() == {**tags, API: 2}
    assert two.flaps == []
    await two.store.accept_loss()
    for each in (one, two):
        await each.has(gone="1", old="1")


async def test_the_right_data_brought_back_is_no_loss_though_it_is_another_cluster(lossy: LossyEtcd, cells: Cells) -> None:
    one, two = cells("one"), cells("two")
    await one.store.apply_policies([StoredPolicy("a", "1")])
    tags = dict(await one.store.claim_tags([WEB], now=NOW))
    await two.has(a="1")
    await two.stop()
    lossy.save()
    cluster = one.store.mirror.copy.cluster
    lossy.restore()
    await eventually_async(lambda: one.store.mirror.copy.cluster != cluster and one.store.mirror.problem is None)
    assert one.told() == ""
    await one.store.apply_policies([StoredPolicy("b", "1")])
    two.start()
    await two.has(a="1", b="1")
    await two.well()
    for each in (one, two):
        assert each.told() == ""
        assert await each.tags() == tags


async def test_the_right_data_brought_back_after_cells_have_gone_on_with_an_empty_etcd_ends_what_is_held(
    lossy: LossyEtcd, cells: Cells
) -> None:
    one, two = cells("one"), cells("two")
    await one.store.apply_policies([StoredPolicy("a", "1")])
    tags = dict(await one.store.claim_tags([WEB], now=NOW))
    await two.has(a="1")
    lossy.save()
    before = one.store.mirror.data
    lossy.lose()
    await one.recovered(before)
    assert "1 policies are held" in one.told()
    lossy.restore()
    for each in (one, two):
        await eventually_async(lambda: each.store.mirror.problem is None and each.told() == "")
        assert await each.documents() == {"a": "1"}
        assert await each.tags() == tags


async def test_two_losses_in_a_row_lose_nothing(lossy: LossyEtcd, cells: Cells) -> None:
    one, two = cells("one"), cells("two")
    await one.store.apply_policies([StoredPolicy("a", "1"), StoredPolicy("b", "1")])
    tags = dict(await one.store.claim_tags([WEB], now=NOW))
    await two.has(a="1", b="1")
    before = [each.store.mirror.data for each in (one, two)]
    lossy.lose()
    await one.recovered(before[0])
    await one.store.apply_policies([StoredPolicy("b", "2")])
    tags |= await one.store.claim_tags([API], now=NOW)
    await two.recovered(before[1])
    await two.has(a="1", b="2")
    await two.stop()
    data = one.store.mirror.data
    lossy.lose()
    await one.recovered(data)
    two.start()
    await two.well()
    for each in (one, two):
        assert await each.documents() == {"a": "1", "b": "2"}
        assert await each.tags() == tags
        assert "2 policies are held" in each.told()


async def test_all_records_deleted_by_hand_are_a_loss_too(lossy: LossyEtcd, cells: Cells) -> None:
    one = cells("one")
    await one.store.apply_policies([StoredPolicy("a", "1")])
    tags = dict(await one.store.claim_tags([WEB], now=NOW))
    one.watch("a")
    before = one.store.mirror.data
    lossy.ctl("del", "--prefix", "/cellnet/")
    await one.recovered(before)
    assert await one.documents() == {"a": "1"}
    assert await one.tags() == tags
    assert one.flaps == []


async def test_no_new_tag_is_given_before_the_known_ones_are_written_back(lossy: LossyEtcd, cells: Cells) -> None:
    one = cells("one")
    tags = await claimed(one, WEB, DB, API)
    before = one.store.mirror.data
    lossy.lose()
    got: dict[AppName, int] = {}

    async def claims() -> bool:
        with contextlib.suppress(Unavailable):
            got.update(await one.store.claim_tags([NEW], now=NOW))
        return bool(got)

    await eventually_async(claims)
    assert one.store.mirror.data > before
    assert got == {NEW: 4}
    assert await one.tags() == tags | got


async def test_an_app_whose_number_went_to_another_gets_a_new_one_and_that_is_reported(lossy: LossyEtcd, cells: Cells) -> None:
    one = cells("one")
    await one.store.claim_tags([API, WEB], now=NOW)
    await one.stop()
    lossy.lose()
    newcomer = cells("newcomer")
    await newcomer.store.claim_tags([NEW], now=NOW)
    assert await newcomer.tags() == {NEW: 1}
    one.start()
    seen: list[dict[AppName, int]] = []

    async def settled() -> bool:
        seen.append(await one.tags())
        return NEW in seen[-1]

    await eventually_async(settled)
    assert await one.tags() == {NEW: 1, WEB: 2, API: 3}
    assert all(API in each and len(set(each.values())) == len(each) for each in seen)
    assert f"tag 1 of {API} was given to {NEW}" in one.told()
    await eventually_async(lambda: newcomer.store.mirror.copy.revision >= one.store.mirror.copy.revision)
    assert await newcomer.tags() == {NEW: 1, WEB: 2, API: 3}


async def test_many_cells_that_notice_at_different_times_end_with_the_same_tags(lossy: LossyEtcd, cells: Cells) -> None:
    made = [cells(f"cell-{number}") for number in range(8)]
    for number, each in enumerate(made):
        await each.store.claim_tags([app(f"a{number}")], now=NOW)
    await eventually_async(lambda: len({each.store.mirror.copy.revision for each in made}) == 1)
    known = await made[0].tags()
    assert len(known) == 8
    for each in made[4:]:
        await each.stop()
    lossy.lose()
    for number, each in enumerate(made[:4]):
        await each.well()
        with contextlib.suppress(Unavailable):
            await each.store.claim_tags([app(f"b{number}")], now=NOW)
    for each in made[4:]:
        each.start()
    for number, each in enumerate(made):

        async def claims(each: StoreWithDisk = each, number: int = number) -> bool:
            with contextlib.suppress(Unavailable):
                await each.store.claim_tags([app(f"b{number}")], now=NOW)
                return True
            return False

        await eventually_async(claims)

    async def agreed() -> bool:
        found = [await each.tags() for each in made]
        return len(found[0]) == 16 and all(each == found[0] for each in found)

    await eventually_async(agreed)
    tags = await made[0].tags()
    assert known.items() <= tags.items()
    assert len(set(tags.values())) == 16


async def test_other_cells_records_stay_until_those_cells_have_written_them_again(lossy: LossyEtcd, cells: Cells) -> None:
    one = cells("one")
    await one.well()
    key = "/cellnet/v1/cells/two/record"
    for name in ("two", "gone"):
        lossy.ctl("put", f"/cellnet/v1/cells/{name}/record", RECORD)
    await eventually_async(lambda: len([each for each in one.store.mirror.in_force if each.endswith("/record")]) == 2)
    before = one.store.mirror.data
    lossy.lose()
    await one.recovered(before)
    assert one.store.mirror.in_force[key].data.decode() == RECORD
    assert "yet to hear of 2 cells, which are kept as they were known: gone, two" in one.told()
    await one.store.accept_loss()
    assert key in one.store.mirror.in_force
    moved = json.dumps(json.loads(RECORD) | {"underlay": "192.0.2.9"})
    lossy.ctl("put", key, moved)
    await eventually_async(lambda: one.store.mirror.in_force[key].data.decode() == moved)
    assert "yet to hear of 1 cells, which are kept as they were known: gone" in one.told()


async def test_own_records_and_every_cells_claims_are_written_back(lossy: LossyEtcd, cells: Cells) -> None:
    one, two = cells("one"), cells("two")
    await one.store.refer([WEB])
    subnets = [
        await each.store.claim_subnet(f"id-{each.name}", network=NETWORK, cell_prefix=24, now=NOW) for each in (one, two)
    ]
    await eventually_async(lambda: one.store.mirror.copy.revision == two.store.mirror.copy.revision)
    await two.stop()
    before = one.store.mirror.data
    lossy.lose()
    await one.recovered(before)
    there = lossy.ctl("get", "--prefix", "/cellnet/v1/", "--keys-only").split()
    assert "/cellnet/v1/cells/one/apps" in there
    three = cells("three")
    third = await three.store.claim_subnet("id-three", network=NETWORK, cell_prefix=24, now=NOW)
    assert third not in subnets
