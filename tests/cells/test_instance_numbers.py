"""Instances' numbers where cells do not hear of each other: given all the same, claimed afterwards, and a clash is told."""

import json

from tests.cells.conftest import Place
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.names import leads
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB
from tests.testlib.status import is_well, name_of, problems, reports

NAME = "api.shop.acme.cell.internal"
PATIENCE = 60.0  # seconds until an outage is known, or over: an etcd is tried every 5 seconds at most


def number(cell: CellUnderTest, name: str) -> object:
    """Of an instance there."""
    return next(each["instance"] for each in json.loads(cell.cellnet("ps", "--json").out) if each["name"] == name)


def claimed(cells: CellsUnderTest) -> list[str]:
    """The instances of the app whose numbers are claimed."""
    prefix = f"/cellnet/v1/claims/indexes/{API}/"
    return [key.removeprefix(prefix) for key in cells.etcd.try_ctl("get", "--prefix", "--keys-only", prefix).out.split()]


def published(cells: CellsUnderTest) -> set[str]:
    """What runs, as the cells say, by name."""
    prefix = "/cellnet/v1/endpoints/"
    return {key.rpartition("/")[2] for key in cells.etcd.try_ctl("get", "--prefix", "--keys-only", prefix).out.split()}


def test_numbers_that_are_given_in_an_outage_are_claimed_afterwards_and_a_clash_is_told_until_one_goes(
    cells: CellsUnderTest, place: Place
) -> None:
    first, _ = callers = place(1, API, name="first"), place(2, WEB)
    cells.allow(WEB, API, "tcp/8080")  # so that all cells know the app
    eventually(lambda: claimed(cells) == ["0"])
    cells.etcd.kill()
    for each in cells:
        eventually(lambda: reports(each, "store", "etcd"), seconds=PATIENCE)
    second, third = place(2, API, name="second"), place(3, API, name="third")
    assert [number(cells[1], "first"), number(cells[2], "second"), number(cells[3], "third")] == [0, 1, 1]
    cells.etcd.start()
    clash = f"instance 1 of {API} is"
    eventually(lambda: sum(reports(each, "store", clash) for each in cells) == 1, seconds=PATIENCE)
    (told,) = (each for each in cells if reports(each, "store", clash))
    assert claimed(cells) == ["0", "1"]
    assert "detach one of them" in problems(told)["store"]
    loses, holds = (second, third) if told is cells[2] else (third, second)
    eventually(lambda: all(leads(each, f"1.{NAME}", holds) and leads(each, NAME, first, second, third) for each in callers))
    for each in cells:
        eventually(lambda: reports(each, "store", f"'{loses.name}' on {name_of(told)} has the number 1 of {API}"))
    loses.end()
    eventually(lambda: published(cells) == {"first", "web", holds.name})
    for each in cells:
        eventually(lambda: is_well(each), seconds=PATIENCE)
    assert claimed(cells) == ["0", "1"]
    assert all(leads(each, f"1.{NAME}", holds) for each in callers)


def test_a_number_is_free_on_all_cells_once_its_instance_has_gone(cells: CellsUnderTest, place: Place) -> None:
    place(1, API, name="kept")
    gone = place(3, API, name="gone")
    assert number(cells[3], "gone") == 1
    eventually(lambda: claimed(cells) == ["0", "1"])
    gone.end()
    eventually(lambda: claimed(cells) == ["0"])
    cells.sync()
    place(2, API, name="next")
    assert number(cells[2], "next") == 1
