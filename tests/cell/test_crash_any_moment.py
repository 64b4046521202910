"""kill -9 of the agent at any moment of any change: the next one makes a clean cell of it, and nobody else notices."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.cli.client import attachment_address
from agent.errors import Unavailable
from lab.cell import Cell, Part
from tests.testlib.attached import interior
from tests.testlib.cell import CellUnderTest, eventually
from tests.testlib.footprint import expected, footprint
from tests.testlib.instance import TLS_PORT
from tests.testlib.live import WEB, Live, as_policies_say, three
from tests.testlib.netns import Netns
from tests.testlib.standpoint import Connected, Refused, Standpoint
from tests.testlib.unsupervised import Unsupervised

SEED = 61443
LEAST, MOST, ENOUGH = 8, 24, 20.0  # rounds, and seconds after which the least will do
LONGEST = 0.04  # seconds from the beginning of a change to the kill; an attach takes about half of that
GUEST, FILE, STORED = "acme/shop/guest", "guests.yaml", "stored"
GUESTS = f"policies:\n- {{from: {WEB}, to: {GUEST}, tcp: [9000, 61443]}}\n"


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    """A supervisor would wait longer and longer."""
    return Unsupervised


@dataclass
class Guests:
    """Containers and policies for them that come and go. `untouched` is how the containers' namespaces were at first."""

    cell: CellUnderTest
    places: dict[str, Netns]
    untouched: dict[str, dict[str, str]]

    def attached(self) -> dict[str, Standpoint]:
        """Those that are in `cellnet ps`."""
        client = self.cell.client
        names = [each.text("name") for each in client.get("/v1/attachments").each()]
        found = {name: client.get(attachment_address(name)) for name in names if name in self.places}
        return {
            name: Standpoint(Path(each.text("pin")), address=IPv4Address(each.text("address"))) for name, each in found.items()
        }

    def attach(self, name: str) -> None:
        self.cell.client.ask("PUT", attachment_address(name), {"app": GUEST, "netns": str(self.places[name].path)})

    def detach(self, name: str) -> None:
        self.cell.client.delete(attachment_address(name))

    def change_file(self) -> None:
        if self.in_file():
            self.cell.remove_policy_file(FILE, sync=False)
        else:
            self.cell.policy_file(FILE, GUESTS, sync=False)

    def change_store(self) -> None:
        if self.in_store():
            self.cell.client.delete(f"/v1/policies/{STORED}")
        else:
            body = {"from": WEB, "to": GUEST, "ports": ["tcp/9001"], "name": STORED}
            self.cell.client.post("/v1/policies/allow", body)

    def in_file(self) -> bool:
        return (self.cell.lab.policies / FILE).exists()

    def in_store(self) -> bool:
        return STORED in [each.text("name") for each in self.cell.client.get("/v1/policies").each()]

    def killed_during(self, change: Callable[[], object], *, after: float) -> None:
        """Begin a change, kill the agent `after` seconds, and start the next one. The change may have happened or not."""
        with ThreadPoolExecutor() as pool:
            changing = pool.submit(change)
            time.sleep(after)
            self.cell.kill("agent")
        with suppress(Unavailable, ConnectionError):  # that the agent went away is the point
            changing.result()
        self.cell.lab.start_part(Part.AGENT)  # type: ignore[attr-defined]
        self.cell.wait_well()

    def assert_clean(self, note: str) -> None:
        """All traces belong to whole attachments, and a namespace without one is as it was at first."""
        eventually(lambda: footprint(self.cell) == expected(self.cell))
        left = {name: interior(place) for name, place in self.places.items() if name not in self.attached()}
        assert left == {name: self.untouched[name] for name in left}, note

    def assert_reached(self, web: Standpoint, note: str) -> None:
        """Those that are attached are reached exactly as file and store say now."""
        by_file, by_store = (Connected if there else Refused for there in (self.in_file(), self.in_store()))
        for name, guest in self.attached().items():
            with guest.listen(9000), guest.listen(9001):
                eventually(lambda guest=guest: web.connect(guest, TLS_PORT) is by_file)
                assert (web.connect(guest, 9000), web.connect(guest, 9001)) == (by_file, by_store), f"{note}: {name}"


@pytest.fixture
def guests(cell: CellUnderTest, netns: Callable[[str], Netns]) -> Iterator[Guests]:
    places = {name: netns(name) for name in ("one", "two", "three")}
    made = Guests(cell, places, {name: interior(place) for name, place in places.items()})
    yield made
    cell.start()
    for name in places:
        made.detach(name)


@pytest.mark.timeout(300)
def test_kills_at_any_moment_of_any_change_leave_a_clean_cell(cell: CellUnderTest, guests: Guests) -> None:
    apps = three(cell)
    live = Live(*apps[:2])
    chance = random.Random(SEED)
    began = time.monotonic()
    for number in range(MOST):
        if number >= LEAST and time.monotonic() - began > ENOUGH:
            break
        name, after = chance.choice(list(guests.places)), chance.uniform(0, LONGEST)
        kind, change = chance.choice(changes(guests, name))
        note = f"round {number}: {kind} {name}, killed after {after * 1000:.1f} ms"
        print(note)
        guests.killed_during(change, after=after)
        assert live.go_on(), note
        guests.assert_clean(note)
        guests.assert_reached(apps[0], note)
    assert as_policies_say(*apps)


def changes(guests: Guests, name: str) -> list[tuple[str, Callable[[], None]]]:
    """What can be begun now; half of it is about the container."""
    if name in guests.attached():
        own: tuple[str, Callable[[], None]] = ("detach", lambda: guests.detach(name))
    else:
        own = ("attach", lambda: guests.attach(name))
    return [own, own, ("file", guests.change_file), ("store", guests.change_store)]


def test_an_attach_that_was_cut_short_can_be_made_again(cell: CellUnderTest, guests: Guests) -> None:
    web = three(cell)[0]
    cell.policy_file(FILE, GUESTS)
    for after in (0.005, 0.012, 0.02):
        guests.killed_during(lambda: guests.attach("one"), after=after)
        if "one" not in guests.attached():
            guests.attach("one")
            assert web.connect(guests.attached()["one"], TLS_PORT) is Connected
        guests.detach("one")
    assert footprint(cell) == expected(cell)
    guests.assert_clean("at last")
