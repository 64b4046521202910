"""What the scripts about many cells measure on real ones. How fast is not asserted."""

from collections.abc import Iterator

import pytest

from bench import bench_names, bench_spread, bench_watch
from bench.bench_watch import CHANGES, EVENTS, RATE, RECEIVED, REQUESTS, UNITS
from bench.stages import many_cells
from bench.stages.many_cells import ManyCells


@pytest.fixture(scope="module")
def place() -> Iterator[ManyCells]:
    with many_cells.built(2) as place:
        yield place


def test_a_policy_is_followed_to_all_cells_and_live_connections_are_cut(place: ManyCells) -> None:
    found = list(bench_spread.among(place, (3,), backend="nft", rounds=1, runs=1))
    assert {each.what for each in found} == {
        *bench_spread.BARS, bench_spread.OWN_CONNECTS, bench_spread.OWN_REFUSES
    }  # fmt: skip
    assert {(each.count, each.setting) for each in found} == {(1, "2 cells, 3 policies around, nft")}
    times = {each.what: each.percentile(50) for each in found}
    assert times[bench_spread.OWN_CONNECTS] <= times[bench_spread.ALL_CONNECT]
    assert times[bench_spread.OWN_REFUSES] <= times[bench_spread.ALL_REFUSE]


def test_a_name_is_followed_to_all_cells_and_back(place: ManyCells) -> None:
    found = list(bench_names.among(place.scenes, rounds=1, runs=1, around=0))
    assert {each.what: (each.count, str(each.bar)) for each in found} == {
        "attached -> its name answers on its cell": (1, "p99 50"),
        "attached -> its name answers on another cell": (1, "p99 200"),
        "detach -> its name answers no more on its cell": (1, ""),
        "detach -> its name answers no more on another cell": (1, ""),
    }


def test_a_cell_learns_of_changes_from_etcd(place: ManyCells) -> None:
    found = {(each.what, each.setting.rpartition(", ")[2]): each.values[0]
             for each in bench_watch.figures(place, 3, rounds=1, seconds=0.5)}  # fmt: skip
    assert len(found) == 2 * len(UNITS)
    changing = f"{RATE} policies a second"
    assert found[CHANGES, "idle"] == 0
    assert 0 < found[CHANGES, changing] <= found[REQUESTS, changing]
    assert found[EVENTS, changing] > found[CHANGES, changing] * 0.9
    assert found[RECEIVED, changing] > found[RECEIVED, "idle"]
