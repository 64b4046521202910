"""The one cell of an SQLite store: announced and published like one of many, with no others to see it."""

from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.errors import Conflict, InvalidInput
from agent.model.cell import Cell
from agent.store.changes import Changes
from agent.store.database import Database
from agent.store.lone_cell import LoneCell
from agent.store.sqlite import SqliteStore
from tests.testlib.samples import app
from tests.testlib.stores.shared import NOW, cell, endpoint


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def store(database: Database, changes: Changes) -> LoneCell:
    return LoneCell(database, changes=changes, clock=lambda: NOW)


async def test_a_cell_alone_knows_itself_and_what_runs_on_it(store: LoneCell) -> None:
    assert await store.cells() == ()
    first = await cell(store, "one")
    web = endpoint(first, "web")
    await store.publish([web])
    assert await store.cells() == (Cell(first, NOW),)
    assert store.endpoints() == {web.address: web}
    await store.publish([replace(web, app=app("api"))])
    assert store.take_departed() == frozenset()


async def test_a_lone_cell_announces_changes_and_nothing_else(store: LoneCell, changes: Changes) -> None:
    first = await cell(store, "one")
    known, heard = await store.cells(), list[int]()
    changes.subscribe(lambda: heard.append(changes.revision))
    await store.announce(first)
    await store.publish([])
    assert heard == []
    assert await store.cells() is known
    await store.announce(replace(first, underlay=IPv4Address("198.51.100.3")))
    await store.publish([endpoint(first, "web")])
    assert len(heard) == 2


async def test_a_file_that_came_to_another_machine_or_name_serves_it(store: LoneCell, path: Path) -> None:
    first = await cell(store, "one")
    with closing(Database(path)) as again:
        moved = replace(first, name="two", id="another")
        other = LoneCell(again, changes=Changes(), clock=lambda: NOW)
        await other.announce(moved)
        assert await other.cells() == (Cell(moved, NOW),)


async def test_a_cell_alone_cannot_be_removed(store: LoneCell) -> None:
    await cell(store, "one")
    with pytest.raises(Conflict, match="cell one is alive"):
        await store.remove_cell("one", now=NOW)
    with pytest.raises(InvalidInput, match="there is no cell 'onne'") as refused:
        await store.remove_cell("onne", now=NOW)
    assert refused.value.hint == "did you mean 'one'?"


async def test_roots_are_kept_over_a_restart(database: Database, path: Path) -> None:
    store, heard = SqliteStore(database), list[int]()
    store.changes.subscribe(lambda: heard.append(1))
    await store.set_trust(b"PEM\xff")
    await store.set_trust(b"PEM\xff")
    assert heard == [1]
    with closing(Database(path)) as again:
        assert await SqliteStore(again).trust() == b"PEM\xff"
