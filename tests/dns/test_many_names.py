"""Ten thousand names: all of them are answered, as they come, and after a restart of dnsmasq."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from agent.loop.names_table import NamesTable
from dataplane.dns.hosts_files import Names
from tests.testlib.beds.dns import DnsBed
from tests.testlib.dns.client import Code, Kind, ask, ask_over_tcp
from tests.testlib.patience import eventually

FIRST, COUNT, EACH = IPv4Address("10.255.8.0"), 2_500, 5
EVERY = 187  # of them one is asked for


def app(number: int) -> str:
    """The name of the app that an instance is of."""
    return f"app{number // EACH}.shop.acme.cell.internal"


def names() -> Names:
    """Four of each instance."""

    def of(number: int) -> tuple[str, ...]:
        every = (app(number), f"route{number // EACH}.apps.internal")
        return tuple(each for name in every for each in (name, f"{number % EACH}.{name}"))

    return {FIRST + number: of(number) for number in range(COUNT)}


@pytest.fixture
def table(bed: DnsBed) -> Iterator[NamesTable]:
    """Over the folder of the bed, which is empty afterwards."""
    yield NamesTable(bed.folder, on_repair=print)
    bed.publish({})
    eventually(lambda: ask(bed.containers[0], app(0)).code is Code.NXDOMAIN)


def all_answered(bed: DnsBed) -> bool:
    """Whether names from one end to the other are, and addresses."""
    for number in (*range(0, COUNT, EVERY), COUNT - 1):
        if ask(bed.containers[0], f"{number % EACH}.{app(number)}").addresses != [str(FIRST + number)]:
            return False
        if len(ask(bed.containers[0], app(number)).addresses) != EACH:
            return False
        if [each.value for each in ask(bed.containers[0], (FIRST + number).reverse_pointer, Kind.PTR).records] != [app(number)]:
            return False
    return True


async def test_ten_thousand_names_are_answered(bed: DnsBed, table: NamesTable) -> None:
    wanted = names()
    await table.publish(wanted, broken=())
    assert not table.problems()
    eventually(lambda: all_answered(bed))
    bed.stop()
    bed.start()
    assert all_answered(bed)
    big = {**wanted, **{FIRST + number: ("big.shop.acme.cell.internal",) for number in range(500)}}
    await table.withdraw(big)
    await table.publish(big, broken=())
    eventually(lambda: len(ask_over_tcp(bed.containers[0], "big.shop.acme.cell.internal").addresses) == 500)
    assert ask(bed.containers[0], app(0)).code is Code.NXDOMAIN
    assert len(list(bed.folder.path.iterdir())) < COUNT / 10  # what dnsmasq walks through for each record of an answer


async def test_a_look_at_them_reads_no_file_that_has_not_changed(table: NamesTable, monkeypatch: pytest.MonkeyPatch) -> None:
    await table.publish(names(), broken=())
    assert await table.look()
    monkeypatch.setattr("dataplane.dns.hosts_files._parsed", lambda path: pytest.fail(f"{path} is read"))
    assert await table.look()
