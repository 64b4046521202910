"""What a cell announces of its containers: all of it, though nothing else happens there."""

from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.patience import eventually
from tests.testlib.shop import API
from tests.testlib.status import name_of


def stored(cells: CellsUnderTest, number: int) -> list[str]:
    """The containers that the store has of a cell, by name."""
    prefix = f"/cellnet/v1/endpoints/{name_of(cells[number])}/"
    return [key.removeprefix(prefix) for key in cells.etcd.try_ctl("get", "--prefix", "--keys-only", prefix).out.split()]


def test_each_attached_instance_is_announced_to_the_others(cells: CellsUnderTest, place: Place) -> None:
    names = [f"one-{number}" for number in range(4)]
    for number, name in enumerate(names):  # of one app: after the first there is no tag that anybody hears of
        place(2, API, name=name)
        eventually(lambda: stored(cells, 2) == names[: number + 1])
