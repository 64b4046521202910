"""What every store promises, asked of each of them in the same words."""

from collections.abc import Callable
from contextlib import closing
from ipaddress import IPv4Network
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import Conflict, InvalidInput
from agent.model.names import AppName
from agent.model.rotation import Rotation
from agent.store.database import Database
from agent.store.protocols import CellStore, StoredPolicy
from agent.store.sqlite import SqliteStore
from agent.store.tags import REST
from tests.store.conftest import Store
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.samples import app

NOW = 1_700_000_000.0
DAY = 24 * 3600.0
NETWORK = IPv4Network("10.255.0.0/16")
WEB, API, DB, JOB = app("web"), app("api"), app("db"), app("job")


async def test_each_app_gets_a_number_of_its_own_and_keeps_it(store: Store) -> None:
    first = await store.claim_tags([WEB, API], now=NOW)
    again = await store.claim_tags([API, WEB, DB], now=NOW + 1)
    assert first == {API: 1, WEB: 2}
    assert again == {API: 1, WEB: 2, DB: 3}
    assert await store.tags() == again


ROTATION = Rotation("ab" * 32, frozenset({"cd" * 32, "ef" * 32}))


async def test_a_rotation_of_the_root_stays_with_its_roots_until_it_is_ended(store: Store) -> None:
    assert await store.rotation() is None
    await store.set_rotation(ROTATION, trust=b"old and new")
    assert (await store.rotation(), await store.trust()) == (ROTATION, b"old and new")
    await store.set_trust(b"others besides")
    assert (await store.rotation(), await store.trust()) == (ROTATION, b"others besides")
    last = Rotation("ab" * 32, frozenset())
    await store.set_rotation(last, trust=b"new")
    assert await store.rotation() == last
    await store.set_rotation(None, trust=b"new")
    assert (await store.rotation(), await store.trust()) == (None, b"new")


async def test_a_rotation_is_kept_over_a_restart(path: Path) -> None:
    with closing(Database(path)) as database:
        await SqliteStore(database).set_rotation(ROTATION, trust=b"both")
    with closing(Database(path)) as again:
        store = SqliteStore(again)
        assert (await store.rotation(), await store.trust()) == (ROTATION, b"both")


async def test_claiming_nothing_changes_nothing(store: Store) -> None:
    assert await store.claim_tags([], now=NOW) == {}
    assert store.changes.revision == 0


async def test_a_released_tag_is_no_longer_in_use_and_no_app_gets_it_within_a_week(store: Store) -> None:
    await store.claim_tags([WEB], now=NOW)
    await store.release_tags([WEB], now=NOW)
    assert await store.tags() == {}
    assert await store.claim_tags([API], now=NOW + 6 * DAY) == {API: 2}


async def test_an_app_that_comes_back_within_the_week_gets_its_old_tag(store: Store) -> None:
    await store.claim_tags([WEB, API], now=NOW)
    await store.release_tags([API], now=NOW)
    assert await store.claim_tags([DB, API], now=NOW + 6 * DAY) == {API: 1, DB: 3}


async def test_an_app_rests_for_a_week_after_its_last_use_and_not_while_it_is_in_use(store: Store) -> None:
    assert await store.resting_apps(now=NOW) == frozenset()
    await store.claim_tags([WEB, API], now=NOW)
    await store.release_tags([API], now=NOW)
    assert await store.resting_apps(now=NOW + 6 * DAY) == {API}
    assert await store.resting_apps(now=NOW + 8 * DAY) == frozenset()
    await store.claim_tags([API], now=NOW + 6 * DAY)
    assert await store.resting_apps(now=NOW + 6 * DAY) == frozenset()


async def test_when_fresh_numbers_run_out_the_longest_rested_goes_first(make_store: Callable[..., Store]) -> None:
    store = make_store(last_tag=3)
    tags = await store.claim_tags([WEB, API, DB], now=NOW)
    await store.release_tags([WEB], now=NOW)
    await store.release_tags([API], now=NOW - 1)
    assert await store.claim_tags([JOB], now=NOW + 8 * DAY) == {JOB: tags[API]}
    assert await store.tags() == {DB: tags[DB], JOB: tags[API]}


async def test_an_app_whose_number_went_to_another_gets_a_new_one(make_store: Callable[..., Store]) -> None:
    store = make_store(last_tag=2)
    tags = await store.claim_tags([WEB, API], now=NOW)
    await store.release_tags([WEB, API], now=NOW)
    await store.claim_tags([DB, JOB], now=NOW + 8 * DAY)
    await store.release_tags([DB], now=NOW + 8 * DAY)
    back = await store.claim_tags([WEB], now=NOW + 16 * DAY)
    assert back == {WEB: tags[API]}
    assert (await store.tags())[JOB] == tags[WEB]


async def test_too_few_numbers_are_a_conflict_that_changes_nothing(make_store: Callable[..., Store]) -> None:
    store = make_store(last_tag=3)
    await store.claim_tags([WEB, API], now=NOW)
    await store.release_tags([API], now=NOW)
    before, revision = await store.tags(), store.changes.revision
    with pytest.raises(Conflict, match="no tag left for acme/shop/job: of 3, 1 are in use and 1 rest"):
        await store.claim_tags([API, DB, JOB], now=NOW + 1)
    assert await store.tags() == before
    assert store.changes.revision == revision
    assert await store.claim_tags([DB], now=NOW + 1) == {DB: 3}


async def test_all_65535_numbers_can_be_given(store: Store) -> None:
    apps = [app(f"a{number}") for number in range(65535)]
    assert set((await store.claim_tags(apps, now=NOW)).values()) == set(range(1, 65536))
    with pytest.raises(Conflict):
        await store.claim_tags([WEB], now=NOW)


async def test_releasing_what_has_no_tag_is_fine_and_a_second_release_does_not_begin_the_week_anew(
    make_store: Callable[..., Store],
) -> None:
    store = make_store(last_tag=1)
    await store.claim_tags([WEB], now=NOW)
    await store.release_tags([WEB, API], now=NOW)
    await store.release_tags([WEB], now=NOW + 6 * DAY)
    assert await store.claim_tags([API], now=NOW + 7 * DAY) == {API: 1}


async def test_a_clock_put_back_neither_shortens_the_week_nor_makes_it_endless(make_store: Callable[..., Store]) -> None:
    store = make_store(last_tag=2)
    await store.claim_tags([WEB], now=NOW + 1000 * DAY)
    await store.release_tags([WEB], now=NOW + 1000 * DAY)
    await store.claim_tags([API], now=NOW)
    with pytest.raises(Conflict):
        await store.claim_tags([DB], now=NOW + 6 * DAY)
    assert await store.claim_tags([DB], now=NOW + 7 * DAY) == {DB: 1}


async def test_policies_are_listed_by_name_as_they_were_written(store: Store) -> None:
    written = StoredPolicy("web-to-api", "from: acme/shop/web\nto: acme/shop/api\ntcp: [8080]  # Ω\n")
    await store.apply_policies([written, StoredPolicy("a", "x")])
    assert await store.policies() == (StoredPolicy("a", "x"), written)


async def test_apply_replaces_by_name_and_leaves_the_others(store: Store) -> None:
    await store.apply_policies([StoredPolicy("a", "1"), StoredPolicy("b", "1")])
    await store.apply_policies([StoredPolicy("b", "2"), StoredPolicy("c", "2")])
    assert [(policy.name, policy.document) for policy in await store.policies()] == [("a", "1"), ("b", "2"), ("c", "2")]


async def test_a_name_that_comes_twice_is_refused_and_nothing_is_applied(store: Store) -> None:
    with pytest.raises(InvalidInput, match="two policies are named 'a'"):
        await store.apply_policies([StoredPolicy("b", "0"), StoredPolicy("a", "1"), StoredPolicy("a", "2")])
    assert await store.policies() == ()


async def test_a_deleted_policy_is_gone_and_its_name_free(store: Store) -> None:
    await store.apply_policies([StoredPolicy("a", "1"), StoredPolicy("b", "1")])
    await store.delete_policy("a")
    assert await store.policies() == (StoredPolicy("b", "1"),)
    await store.apply_policies([StoredPolicy("a", "2")])
    assert len(await store.policies()) == 2


async def test_deleting_what_is_not_there_names_the_nearest(store: Store) -> None:
    await store.apply_policies([StoredPolicy("web-to-api", "1"), StoredPolicy("other", "1")])
    with pytest.raises(InvalidInput, match="no policy 'web-to-apl' in the store") as refused:
        await store.delete_policy("web-to-apl")
    assert refused.value.hint == "did you mean 'web-to-api'?"
    with pytest.raises(InvalidInput) as refused:
        await store.delete_policy("zzzzzz")
    assert "policy list" in refused.value.hint
    assert len(await store.policies()) == 2


async def test_listeners_are_called_once_for_each_change_after_it_is_made(store: Store) -> None:
    heard: list[int] = []
    store.changes.subscribe(lambda: heard.append(store.changes.revision))
    await store.claim_tags([WEB], now=NOW)
    await store.apply_policies([StoredPolicy("a", "1"), StoredPolicy("b", "1")])
    await store.delete_policy("a")
    await store.release_tags([WEB], now=NOW)
    assert heard == [1, 2, 3, 4]


async def test_listeners_are_not_called_when_nothing_changed(store: Store) -> None:
    await store.claim_tags([WEB], now=NOW)
    await store.apply_policies([StoredPolicy("a", "1")])
    tags, policies, heard = await store.tags(), await store.policies(), list[int]()
    store.changes.subscribe(lambda: heard.append(1))
    await store.claim_tags([WEB], now=NOW + 1)
    await store.release_tags([API], now=NOW + 1)
    await store.apply_policies([StoredPolicy("a", "1")])
    await store.apply_policies([])
    with pytest.raises(InvalidInput):
        await store.delete_policy("b")
    assert heard == []
    assert await store.tags() is tags
    assert await store.policies() is policies


async def test_a_listener_that_has_left_is_not_called(store: Store) -> None:
    heard: list[int] = []
    end = store.changes.subscribe(lambda: heard.append(1))
    end()
    end()
    await store.claim_tags([WEB], now=NOW)
    assert heard == []


async def test_records_cannot_be_changed_from_outside(store: Store) -> None:
    tags = await store.claim_tags([WEB], now=NOW)
    with pytest.raises(TypeError):
        (await store.tags())[API] = 7  # type: ignore[index]
    assert await store.tags() == tags


async def test_the_first_cell_gets_the_second_part_of_the_network(cell_store: CellStore) -> None:
    mine = await cell_store.claim_subnet("cell-1", network=NETWORK, cell_prefix=24, now=NOW)
    assert mine == IPv4Network("10.255.1.0/24")
    assert await cell_store.claim_subnet("cell-1", network=NETWORK, cell_prefix=24, now=NOW) == mine
    assert await cell_store.claim_subnet("cell-2", network=NETWORK, cell_prefix=24, now=NOW) == IPv4Network("10.255.2.0/24")


async def test_a_network_of_one_part_is_given_whole(cell_store: CellStore) -> None:
    whole = IPv4Network("192.168.77.0/24")
    assert await cell_store.claim_subnet("cell-1", network=whole, cell_prefix=24, now=NOW) == whole


async def test_a_changed_network_or_prefix_gives_another_subnet_that_overlaps_no_other(cell_store: CellStore) -> None:
    await cell_store.claim_subnet("cell-1", network=NETWORK, cell_prefix=24, now=NOW)
    await cell_store.claim_subnet("cell-2", network=NETWORK, cell_prefix=24, now=NOW)
    wider = await cell_store.claim_subnet("cell-1", network=NETWORK, cell_prefix=22, now=NOW)
    assert wider == IPv4Network("10.255.4.0/22")
    moved = await cell_store.claim_subnet("cell-2", network=IPv4Network("10.99.0.0/16"), cell_prefix=24, now=NOW)
    assert moved == IPv4Network("10.99.1.0/24")


async def test_a_full_network_is_a_conflict_and_a_prefix_that_does_not_fit_is_wrong_input(cell_store: CellStore) -> None:
    small = IPv4Network("10.9.0.0/23")
    await cell_store.claim_subnet("cell-1", network=small, cell_prefix=24, now=NOW)
    with pytest.raises(Conflict, match=r"no /24 is left in 10\.9\.0\.0/23"):
        await cell_store.claim_subnet("cell-2", network=small, cell_prefix=24, now=NOW)
    for prefix in (22, 31):
        with pytest.raises(InvalidInput, match="does not fit"):
            await cell_store.claim_subnet("cell-2", network=small, cell_prefix=prefix, now=NOW)


step = st.tuples(st.sampled_from(["claim", "release"]), st.sets(st.sampled_from("abcdefgh"), max_size=3), st.integers(0, 12))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, max_size=12))
async def test_both_stores_give_the_same_tags_whatever_happened(tmp_path: Path, steps: list[tuple[str, set[str], int]]) -> None:
    """Tags run out, rest for a week, and the clock is put back now and then."""
    with closing(Database(tmp_path / uuid4().hex / "cellnet.db")) as database:
        stores = (MemoryStore(last_tag=5), SqliteStore(database, last_tag=5))
        for word, letters, weeks in steps:
            apps, now = [AppName("acme", "shop", letter) for letter in sorted(letters)], weeks * REST / 4
            found: list[object] = []
            for each in stores:
                try:
                    if word == "claim":
                        await each.claim_tags(apps, now=now)
                    else:
                        await each.release_tags(apps, now=now)
                except Conflict as error:
                    found.append(error.what)
                found.append(dict(await each.tags()))
            assert found[: len(found) // 2] == found[len(found) // 2 :]
