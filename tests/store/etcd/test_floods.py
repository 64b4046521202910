"""A cell that writes without end: its part is bounded, and it is named. The flood itself is in tests/cells/test_floods.py."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from agent.model.cell import CellRecord, Endpoint
from agent.store.etcd import records
from agent.store.etcd.client import Batch, RecordChange, Value
from agent.store.etcd.merged_batches import merged
from agent.store.etcd.write_rates import FEW, WINDOW, WriteRates
from tests.store.etcd.test_cell_records import KEYS, LEASE, Values, cell, claimed, decoded, honest, runs, said
from tests.testlib.samples import app

MANY = 20_000
PREFIX = KEYS.endpoints_of("cell-2")


def flood(record: CellRecord, first: int, last: int) -> Values:
    """Endpoints by number."""
    made = [Endpoint(record.name, f"x-{each}", app("web"), 0, record.subnet[2 + each % 253]) for each in range(first, last)]
    return {KEYS.endpoints_of(each.cell) + each.name: Value(records.encode_endpoint(each), 3, LEASE) for each in made}


def test_of_a_cells_endpoints_as_many_count_as_its_part_has_room_for_and_the_cell_is_named() -> None:
    found = decoded(honest(1) | claimed(cell(2)) | said(cell(2)) | flood(cell(2), 0, MANY))
    theirs = [each for each in found.endpoints.values() if each.cell == "cell-2"]
    assert 0 < len(theirs) <= 253
    assert found.malformed[PREFIX] == "it publishes 20000 endpoints, and 10.255.2.0/24 has room for 253: 19747 are left out"
    assert len(found.malformed) <= 254
    assert len([each for each in found.endpoints.values() if each.cell == "cell-1"]) == 2


def test_what_was_in_excess_counts_when_there_is_room() -> None:
    values = honest(1) | claimed(cell(2)) | said(cell(2)) | runs(cell(2), *range(2, 255))
    found = decoded(values)
    more = flood(cell(2), 0, 1)
    found.update(more, values | more)
    assert PREFIX in found.malformed
    gone = PREFIX + "web-2"
    found.update([gone], more)
    assert found.malformed == {}
    assert found.endpoints[cell(2).subnet[2]].name == "x-0"


def test_a_change_among_twenty_thousand_endpoints_decodes_one_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    values = honest(1) | claimed(cell(2)) | said(cell(2)) | flood(cell(2), 0, MANY)
    found, asked, really = decoded(values), list[str](), records.decode_endpoint

    def decode(cell: str, name: str, value: Value, **domains: object) -> Endpoint:
        asked.append(name)
        return really(cell, name, value)

    monkeypatch.setattr(records, "decode_endpoint", decode)
    begun = time.perf_counter()
    for number in range(0, MANY, 20):
        found.update([f"{PREFIX}x-{number}"], values)
    print(f"1,000 changes among {MANY} endpoints: {(time.perf_counter() - begun) * 1000:.1f} ms")
    assert len(asked) <= 253
    assert len(set(asked)) == len(asked)


def test_a_cell_that_goes_on_writing_is_named_until_it_stops() -> None:
    now = [0.0]
    rates = WriteRates(lambda: now[0])
    for _ in range(FEW + 1):
        rates.count("loud")
    rates.count("quiet")
    assert list(rates.floods(lambda _: 253)) == []
    for _ in range(FEW):
        rates.count("loud")
    assert list(rates.floods(lambda _: 253)) == [("loud", 2 * FEW + 1)]
    assert list(rates.floods(lambda _: 4093)) == [], "a large cell may come back with all it has"
    now[0] += WINDOW
    assert list(rates.floods(lambda _: 253)) == [("loud", 2 * FEW + 1)]
    now[0] += WINDOW
    assert list(rates.floods(lambda _: 253)) == []


def batch(revision: int, *keys: str) -> Batch:
    return Batch(tuple(RecordChange(key, Value(b"", revision), revision) for key in keys), revision, revision, 7)


async def ending(batches: Sequence[Batch], error: Exception) -> AsyncIterator[Batch]:
    for each in batches:
        yield each
    raise error


async def test_what_comes_at_once_is_one_batch_with_each_records_last_change() -> None:
    batches = merged(ending([batch(1, "a"), batch(2, "b"), batch(3, "a")], ConnectionError()), may_wait=bool)
    got = await anext(batches)
    assert (got.revision, [(change.key, change.revision) for change in got.changes]) == (3, [("a", 3), ("b", 2)])
    with pytest.raises(ConnectionError):
        await anext(batches)


async def test_what_may_not_wait_takes_with_it_what_waits() -> None:
    queue = asyncio.Queue[Batch]()

    async def come() -> AsyncIterator[Batch]:
        while True:
            yield await queue.get()

    async with contextlib.aclosing(merged(come(), may_wait=lambda key: key.startswith("e"), pause=3600.0)) as batches:
        queue.put_nowait(batch(1, "e1"))
        assert (await anext(batches)).revision == 1
        queue.put_nowait(batch(2, "e2"))
        later = asyncio.get_running_loop().create_task(anext(batches))
        assert not (await asyncio.wait([later], timeout=0.05))[0]
        queue.put_nowait(batch(3, "p"))
        assert [change.key for change in (await later).changes] == ["e2", "p"]
