"""Names around the kernel's part of a turn: what goes is withdrawn before it, what comes is published after it."""

import asyncio
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.loop.names_table import NamesTable
from dataplane.dns.hosts_files import HostsFolder, Names
from tests.testlib.disks import Filler, small_disk

WEB, API = IPv4Address("10.255.1.2"), IPv4Address("10.255.1.200")
NAMES: Names = {WEB: ("web.internal", "0.web.internal"), API: ("api.internal",)}


class Table:
    """A table over a folder of a test's own, and what it has repaired."""

    def __init__(self, path: Path) -> None:
        self.path, self.repairs = path, list[str]()
        self.table = NamesTable(HostsFolder(path), on_repair=self.repairs.append)

    async def turn(self, names: Names, *, broken: frozenset[IPv4Address] = frozenset()) -> None:
        await self.table.withdraw(names)
        await self.table.publish(names, broken=broken)

    @property
    def files(self) -> Names:
        return HostsFolder(self.path).read()

    @property
    def problems(self) -> list[str]:
        return [each.what for each in self.table.problems()]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "names")


async def test_a_name_that_goes_is_gone_before_one_that_comes_is_there(table: Table) -> None:
    await table.turn(NAMES)
    assert table.files == NAMES
    after: Names = {WEB: ("0.web.internal", "front.internal"), IPv4Address("10.255.1.3"): ("new.internal",)}
    await table.table.withdraw(after)
    assert table.files == {WEB: ("0.web.internal",)}
    await table.table.publish(after, broken=())
    assert table.files == after


class Counted(str):
    """A name that counts how often one is compared with another."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


async def test_a_name_more_among_hundreds_costs_work_in_proportion(table: Table) -> None:
    many = [Counted(f"r{number}.apps.internal") for number in range(300)]
    await table.turn({WEB: tuple(many[:-1])})
    Counted.compared = 0
    await table.turn({WEB: tuple(many)})
    assert table.files == {WEB: tuple(many)}
    assert Counted.compared < 10 * len(many)


async def test_a_container_that_is_not_in_place_gets_no_name_and_one_that_was_keeps_its(table: Table) -> None:
    await table.turn({WEB: NAMES[WEB]})
    await table.turn(NAMES, broken=frozenset({WEB, API}))
    assert table.files == {WEB: NAMES[WEB]}
    await table.turn(NAMES)
    assert table.files == NAMES


async def test_an_agent_that_comes_again_finds_what_is_there_and_changes_what_differs(table: Table) -> None:
    await table.turn(NAMES)
    before = {each.name: each.stat().st_ino for each in table.path.iterdir()}
    again = Table(table.path)
    await again.table.withdraw({WEB: NAMES[WEB]})
    assert again.files == {WEB: NAMES[WEB]}
    await again.table.publish({WEB: NAMES[WEB]}, broken=())
    assert {each.name: each.stat().st_ino for each in table.path.iterdir()} == {"10.255.1.0": before["10.255.1.0"]}


async def test_a_look_finds_what_another_program_has_changed_and_a_turn_mends_it(table: Table) -> None:
    await table.turn(NAMES)
    assert await table.table.look()
    (table.path / "10.255.1.0").write_text("10.255.1.5 web.internal\n")
    (table.path / "10.255.1.192").unlink()
    assert not await table.table.look()
    assert table.repairs == ["names 3"]
    await table.turn(NAMES)
    assert table.files == NAMES
    assert await table.table.look()


async def test_a_strange_file_is_removed_in_a_look(table: Table) -> None:
    await table.turn(NAMES)
    (table.path / "hosts").write_text("10.255.1.66 web.internal\n")
    await table.table.look()
    assert not (table.path / "hosts").exists()
    assert table.repairs == ["files in the folder of names 1"]


async def test_a_folder_that_is_gone_is_made_again(table: Table) -> None:
    await table.turn(NAMES)
    for each in table.path.iterdir():
        each.unlink()
    table.path.rmdir()
    assert not await table.table.look()
    await table.turn(NAMES)
    assert table.files == NAMES


async def test_what_cannot_be_written_is_a_problem_and_is_tried_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m,mode=0755") as disk:
        table = Table(disk / "names")
        await table.turn({WEB: ("web.internal",)})
        filler = Filler(disk / "filler")
        filler.fill()
        await table.turn(NAMES)
        assert table.files == {WEB: ("web.internal",)}
        assert table.problems == [f"cannot write {disk}/names/10.255.1.0: No space left on device, and 1 more files"]
        assert not await table.table.look()
        filler.empty()
        await table.turn(NAMES)
        assert (table.files, table.problems) == (NAMES, [])
        assert await table.table.look()


async def test_names_are_withdrawn_where_there_is_no_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m,mode=0755") as disk:
        table = Table(disk / "names")
        await table.turn(NAMES)
        Filler(disk / "filler").fill()
        await table.table.withdraw({WEB: ("web.internal",)})
        assert table.files == {WEB: ("web.internal",)}


async def test_a_folder_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("")
    table = Table(tmp_path / "names")
    await table.turn(NAMES)
    assert table.problems == [f"cannot read {tmp_path}/names: File exists"]
    (tmp_path / "names").unlink()
    assert not await table.table.look()
    await table.turn(NAMES)
    assert (table.files, table.problems) == (NAMES, [])


async def test_a_look_and_a_turn_that_meet_wait_for_each_other(table: Table) -> None:
    await table.turn(NAMES)
    for number in range(20):
        wanted: Names = {WEB: (f"{number}.internal",)}
        await asyncio.gather(table.table.look(), table.turn(wanted), table.table.look())
        assert table.files == wanted
    assert table.repairs == []
