"""kill -9 of the agent before any effect of any change: the next one makes a clean cell of it, and no container notices."""

import random
import time
from collections.abc import Callable, Iterator

import pytest

from lab.cell import Cell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import LiveConnections
from tests.testlib.crashes.churn import FILE, POLICIES, Churn
from tests.testlib.crashes.killable_cell import killable_cells
from tests.testlib.footprint import expected, footprint, interior
from tests.testlib.instance import TLS_PORT
from tests.testlib.netns import Netns
from tests.testlib.node import Connected
from tests.testlib.shop import follows_policy, three_apps

SEED = 61443
LEAST, MOST, ENOUGH = 8, 40, 20.0  # rounds, and seconds after which the least will do
EFFECTS = {"attach": 54, "detach": 34, "file": 9, "store": 7}  # about; after the last it is killed too
OF_A_START = 40


@pytest.fixture(scope="module")
def cell_kind() -> Iterator[type[Cell]]:
    """A supervisor would wait longer and longer."""
    with killable_cells() as kind:
        yield kind


@pytest.fixture
def guests(cell: CellUnderTest, netns: Callable[[str], Netns]) -> Iterator[Churn]:
    places = {name: netns(name) for name in ("one", "two", "three")}
    made = Churn(cell, places, {name: interior(place) for name, place in places.items()})
    yield made
    cell.start()
    for name in places:
        made.detach(name)


@pytest.mark.timeout(300)
def test_kills_between_any_two_effects_of_any_change_leave_a_clean_cell(cell: CellUnderTest, guests: Churn) -> None:
    apps = three_apps(cell)
    live = LiveConnections(*apps[:2])
    chance = random.Random(SEED)
    began = time.monotonic()
    for number in range(MOST):
        if number >= LEAST and time.monotonic() - began > ENOUGH:
            break
        kind, name, change = guests.next_change(number, chance)
        attached = {each: guest for each, guest in guests.attached().items() if each != name}
        rights = {port: yes for port, yes in guests.rights().items() if port != {"file": 9000, "store": 9001}.get(kind)}
        stopped = guests.killed_during(change, before=chance.randint(1, EFFECTS[kind]))
        again = chance.choice((None, chance.randint(1, OF_A_START)))
        note = f"round {number}: {kind} {name}, killed before {stopped}, and at effect {again} of the next start"
        print(note)
        assert live.go_on(), note
        guests.assert_unmoved(apps[0], attached, rights)
        guests.mended(killed_before=again)
        assert live.go_on(), note
        guests.assert_clean(note)
        guests.assert_reached(apps[0], note)
    assert follows_policy(*apps)


def test_an_attach_that_was_cut_short_can_be_made_again(cell: CellUnderTest, guests: Churn) -> None:
    web = three_apps(cell)[0]
    cell.policy_file(FILE, POLICIES)
    for before in (11, 28, 45):  # before the pin, in the rules, at the container's end of the link
        guests.killed_during(lambda: guests.attach("one"), before=before)
        guests.mended()
        if "one" not in guests.attached():
            guests.attach("one")
            assert web.connect(guests.attached()["one"], TLS_PORT) is Connected
        guests.detach("one")
    assert footprint(cell) == expected(cell)
    guests.assert_clean("at last")
