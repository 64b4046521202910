"""Containers and policies for them that come and go, while the agent is killed before one of its effects or another."""

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from agent.client.connection import attachment_address
from agent.errors import HostRefused, Unavailable
from lab.cell import Part
from tests.testlib.cell import CellUnderTest
from tests.testlib.crashes.effects import Effects
from tests.testlib.crashes.killable_cell import KillableCell
from tests.testlib.footprint import expected, footprint, interior
from tests.testlib.instance import TLS_PORT
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import WEB

APP, FILE, STORED = "acme/shop/guest", "guests.yaml", "stored"
POLICIES = f"policies:\n- {{from: {WEB}, to: {APP}, tcp: [9000, 61443]}}\n"
AT_LEISURE = 0.3  # seconds for an effect that comes after the answer, as those of a policy file do


@dataclass
class Churn:
    """Containers and policies for them that come and go. `untouched` is how the containers' namespaces were at first."""

    cell: CellUnderTest
    places: dict[str, Netns]
    untouched: dict[str, dict[str, str]]

    def attached(self) -> dict[str, Node]:
        """Those that are in `cellnet ps`."""
        client = self.cell.client
        names = [each.text("name") for each in client.get("/v1/attachments").each()]
        found = {name: client.get(attachment_address(name)) for name in names if name in self.places}
        return {name: Node(Path(each.text("pin")), address=IPv4Address(each.text("address"))) for name, each in found.items()}

    def next_change(self, number: int, chance: random.Random) -> tuple[str, str, Callable[[], None]]:
        """Its kind, its container and what begins it: each kind in turn."""
        kind = ("attach", "file", "detach", "store")[number % 4]
        if kind in ("file", "store"):
            return kind, "", self.change_file if kind == "file" else self.change_store
        there = self.attached()
        if len(there) == len(self.places):
            kind = "detach"
        name = chance.choice(sorted(there if kind == "detach" and there else self.places.keys() - there))
        if kind == "attach":
            return kind, name, lambda: self.attach(name)
        if name not in there:
            self.attach(name)
        return kind, name, lambda: self.detach(name)

    def attach(self, name: str) -> None:
        self.cell.client.ask("PUT", attachment_address(name), {"app": APP, "netns": str(self.places[name].path)})

    def detach(self, name: str) -> None:
        self.cell.client.delete(attachment_address(name))

    def change_file(self) -> None:
        if self.in_file():
            self.cell.remove_policy_file(FILE, sync=False)
        else:
            self.cell.policy_file(FILE, POLICIES, sync=False)

    def change_store(self) -> None:
        if self.in_store():
            self.cell.client.delete(f"/v1/policies/{STORED}")
        else:
            body = {"from": WEB, "to": APP, "ports": ["tcp/9001"], "name": STORED}
            self.cell.client.post("/v1/policies/allow", body)

    def in_file(self) -> bool:
        return (self.cell.lab.policies / FILE).exists()

    def in_store(self) -> bool:
        return STORED in [each.text("name") for each in self.cell.client.get("/v1/policies").each()]

    def killed_during(self, change: Callable[[], object], *, before: int) -> str:
        """Begin a change and have the agent killed before its effect of that number, or after the last; returns that effect.

        The change may have happened or not. No agent runs when this returns.
        """
        effects = self.lab.effects
        effects.die_before(before, with_tools=False)
        with suppress(Unavailable, ConnectionError):  # that the agent went away is the point
            change()
        self._ended(effects)
        return effects.stopped_before or "nothing more"

    def mended(self, *, killed_before: int | None = None) -> None:
        """Start the next agent, and one more if that is killed too before its effect of that number."""
        self.lab.start_part(Part.AGENT, killed_before=killed_before)
        if killed_before is not None:
            self._ended(self.lab.effects)
            self.lab.start_part(Part.AGENT)
        self.cell.wait_well()

    def _ended(self, effects: Effects) -> None:
        """Wait until the agent is killed before the chosen effect, or kill it where that does not come."""
        if not effects.await_stop(seconds=AT_LEISURE):
            with suppress(HostRefused):  # it came at this very moment
                self.cell.kill("agent")
        eventually(lambda: self.lab.part(Part.AGENT) is None)

    @property
    def lab(self) -> KillableCell:
        """Whose agent is held up."""
        assert isinstance(self.cell.lab, KillableCell)
        return self.cell.lab

    def rights(self) -> dict[int, bool]:
        """The ports that WEB may call now."""
        return {9000: self.in_file(), 9001: self.in_store()}

    def assert_unmoved(self, web: Node, attached: Mapping[str, Node], rights: Mapping[int, bool]) -> None:
        """What an unfinished change is not about is as it was."""
        for guest in attached.values():
            with guest.listen(9000), guest.listen(9001):
                assert {port: web.connect(guest, port) is Connected for port in rights} == rights

    def assert_clean(self, note: str) -> None:
        """All traces belong to whole attachments, and a namespace without one is as it was at first."""
        eventually(lambda: footprint(self.cell) == expected(self.cell))
        left = {name: interior(place) for name, place in self.places.items() if name not in self.attached()}
        assert left == {name: self.untouched[name] for name in left}, note

    def assert_reached(self, web: Node, note: str) -> None:
        """Attached containers are reached exactly as file and store now allow."""
        by_file, by_store = (Connected if there else Refused for there in (self.in_file(), self.in_store()))
        for name, guest in self.attached().items():
            with guest.listen(9000), guest.listen(9001):
                eventually(lambda: web.connect(guest, TLS_PORT) is by_file)
                assert (web.connect(guest, 9000), web.connect(guest, 9001)) == (by_file, by_store), f"{note}: {name}"
