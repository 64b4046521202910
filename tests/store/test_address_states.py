"""Any history of apps that come, renew and go: no address passes to another app before its time, unless none is left."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from random import Random
from shutil import rmtree
from tempfile import mkdtemp

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from agent.errors import Conflict
from agent.store.database import Database
from agent.store.last_leaves import ClockBounds, LastLeaf
from agent.store.ledger import Ledger
from tests.testlib.samples import OWNER, request

USABLE = [IPv4Address(f"10.255.1.{last}") for last in range(2, 7)]


@dataclass
class Place:
    """What has become of one address: whose certificates name it, each until when, and when it was freed."""

    holder: str = ""
    named: list[tuple[str, float]] = field(default_factory=list)
    freed: float | None = None

    def is_open_to(self, app: str, now: float) -> bool:
        """Whether the last certificate is the app's, or all have ended."""
        last = self.named[-1][0] if self.named else app
        return last == app or all(ends <= now for _, ends in self.named)


class Addresses(RuleBasedStateMachine):
    """A model beside a ledger. Time passes by itself; the clock that the agent sees may lag behind it and be ahead of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="cellnet-test-"))
        self.now, self.number = 1_000_000.0, 0
        self.places = {address: Place() for address in USABLE}
        self.open()

    def open(self) -> None:
        self.database = Database(self.folder / "cellnet.db")
        self.ledger = Ledger(self.database)
        self.ledger.adopt_subnet(IPv4Network("10.255.1.0/29"))

    def teardown(self) -> None:
        self.database.close()
        rmtree(self.folder)

    @rule(of=st.sampled_from("xyz"), life=st.floats(10, 500), ahead=st.sampled_from([0.0, 200.0]))
    def attach(self, of: str, life: float, ahead: float) -> None:
        self.number += 1
        name, free = f"{of}{self.number}", {each: place for each, place in self.places.items() if not place.holder}
        try:
            proving = ClockBounds(self.now, self.now + ahead)
            address = self.ledger.begin(request(name, of=of), owner=OWNER, proving=proving).address
        except Conflict:
            assert not free
            return
        place = free[address]
        if not place.is_open_to(of, self.now):
            assert not [each for each in free.values() if each.is_open_to(of, self.now)]
            assert place.freed == min(each.freed for each in free.values() if each.freed is not None)
        place.holder, place.freed = name, None
        self.issue(address, of, life)

    def issue(self, address: IPv4Address, of: str, life: float) -> None:
        now = ClockBounds(self.now, self.now)
        self.ledger.remember_leaf(address, LastLeaf(f"acme/shop/{of}", self.now, self.now + life), now=now)
        self.places[address].named.append((of, self.now + life))

    @precondition(lambda self: any(place.holder for place in self.places.values()))
    @rule(choice=st.randoms(use_true_random=False), life=st.floats(10, 500))
    def renew(self, choice: Random, life: float) -> None:
        address = choice.choice([each for each, place in self.places.items() if place.holder])
        self.issue(address, self.places[address].holder[0], life)

    @precondition(lambda self: any(place.holder for place in self.places.values()))
    @rule(choice=st.randoms(use_true_random=False))
    def detach(self, choice: Random) -> None:
        place = choice.choice([place for place in self.places.values() if place.holder])
        self.ledger.begin_detach(place.holder)
        self.ledger.finish_detach(place.holder, now=self.now)
        place.holder, place.freed = "", self.now

    @rule(passed=st.floats(0.001, 300))
    def wait(self, passed: float) -> None:
        self.now += passed

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.open()


Addresses.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
test_no_history_gives_an_address_to_another_app_before_its_time = Addresses.TestCase
