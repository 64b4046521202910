"""What cells publish of their policy files is shown for what runs there, and for nothing else."""

import asyncio
from collections.abc import Collection
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.model.cell import CellRecord, Endpoint
from agent.model.names import AppName
from agent.model.outside import HostPattern
from agent.policy import of_cells
from agent.policy.endings import Endings
from agent.policy.in_force import PoliciesInForce
from agent.policy.language.language import parse
from agent.policy.of_cells import PoliciesOfCells
from agent.policy.packed import pack
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.shared import cell, endpoint

WEB, API, DB = app("web"), app("api"), app("db")
FAR = IPv4Address("192.0.2.9")
RULES = """policies:
- {from: acme/shop/web, to: acme/shop/*, tcp: 80}
- {from: acme/shop/*, to: {cidr: [192.0.2.0/24]}, tcp: 443}
- {from: acme/shop/db, to: {cidr: [192.0.2.0/24]}, tcp: 443}
- {from: acme/shop/web, to: acme/shop/db, tcp: 81}
"""


class Side:
    """One cell: its files, and what it knows of the others'."""

    def __init__(self, folder: Path, store: MemoryStore, name: str, apps: Collection[AppName]) -> None:
        self.files, self.store, self.name, self.apps = folder / name, store, name, apps
        self.files.mkdir()
        endings = Endings(folder / f"{name}-time", now=lambda: 0.0)
        self.policies = PoliciesInForce(self.files, last_good=folder / f"{name}-good", store=store, endings=endings)
        self.of_cells = PoliciesOfCells(self.policies, store, cell=name, is_here=self.apps.__contains__)
        self.record: CellRecord | None = None

    async def announce(self) -> None:
        self.record = await cell(self.store, self.name)
        await self.runs(*self.apps)

    async def runs(self, *apps: AppName) -> None:
        assert self.record is not None
        await self.store.publish([self._endpoint(each, last) for last, each in enumerate(apps, start=2)])

    def _endpoint(self, each: AppName, last: int) -> Endpoint:
        assert self.record is not None
        return endpoint(self.record, each.app, of=each.app, last=last)

    async def by(self, source: AppName, to: AppName | IPv4Address | HostPattern) -> dict[str, list[str]]:
        """Cells, each with the places of policies that let one reach the other there."""
        found = await self.of_cells.speaking(source, to=to)
        return {name: [str(each.origin) for each in policies] for name, policies in found.items()}


@pytest.fixture
async def sides(tmp_path: Path) -> tuple[Side, Side]:
    """Cell one runs web, cell two api."""
    store = MemoryStore()
    one, two = Side(tmp_path, store, "one", [WEB]), Side(tmp_path, store.beside(), "two", [API])
    for each in (one, two):
        await each.announce()
    return one, two


async def test_a_file_of_another_cell_counts_for_what_runs_there_alone(sides: tuple[Side, Side]) -> None:
    one, two = sides
    (two.files / "shop.yaml").write_text(RULES)
    await two.policies.settle_files()
    publishing = asyncio.create_task(two.of_cells.run())
    await eventually_async(lambda: bool(one.store.published_policies()))
    publishing.cancel()
    place = f"two:{two.files}/shop.yaml"
    assert await one.by(WEB, API) == {"two": [f"{place}:2"]}
    assert await one.by(API, FAR) == {"two": [f"{place}:3"]}
    assert await one.by(WEB, FAR) == {"one": []}, "what leaves web is judged where web runs"
    assert await one.by(WEB, DB) == {}, "it runs nowhere"
    assert [str(each.to) for each in await one.of_cells.elsewhere()] == ["acme/shop/api", "192.0.2.0/24"]
    known = await one.of_cells.elsewhere()
    await one.runs(WEB, DB)
    assert await one.of_cells.elsewhere() is known
    await two.runs(API, DB)
    assert await one.by(WEB, DB) == {"two": [f"{place}:2", f"{place}:5"]}
    assert await one.by(DB, FAR) == {"two": [f"{place}:3", f"{place}:4"]}


async def test_no_cell_has_others_spell_out_more_than_they_can(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_cells, "MOST_SPELLED_OUT", 5)
    one, two = sides
    await two.runs(API, DB)
    rules = "".join(f"- {{from: acme/*/*, to: acme/*/*, tcp: {port}}}\n" for port in range(1, 5))
    await two.store.publish_policies(pack(parse(f"policies:\n{rules}".encode(), source="f")))
    assert len(await one.of_cells.elsewhere()) == 5
    assert "not all of them are known here" in one.of_cells.incomplete("two")


async def test_a_cell_whose_numbers_are_none_breaks_no_reader(sides: tuple[Side, Side]) -> None:
    """What other cells write is read for every attach, too."""
    one, two = sides
    await two.store.publish_policies(b'{"left_out": Infinity, "policies": "eJyLjgUAARUAuQ=="}')
    assert await one.of_cells.everywhere() == ()
    assert "makes no sense" in one.of_cells.incomplete("two")


async def test_a_cell_that_lies_is_named_and_counts_for_nothing(sides: tuple[Side, Side]) -> None:
    one, two = sides
    await two.store.publish_policies(b"nonsense")
    assert await one.by(WEB, API) == {"two": []}
    assert "what two says of its policy files makes no sense" in one.of_cells.incomplete("two")
    assert "three has not published its policy files" in one.of_cells.incomplete("three")
    assert one.of_cells.incomplete("one") == ""
