"""Any history of attaches, detaches, reopenings and crashes: the book and a naive model of it never differ."""

import shutil
import tempfile
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.errors import Conflict
from agent.model.attachment import Attachment, Phase
from agent.store.database import Database
from agent.store.ledger import Ledger
from tests.testlib.samples import OWNER, request

SUBNET = IPv4Network("10.255.1.0/29")
USABLE = [IPv4Address(f"10.255.1.{last}") for last in range(2, 7)]
names = st.sampled_from([f"n{number}" for number in range(8)])


class Book(RuleBasedStateMachine):
    """The model: attachments by name, and when each address was last freed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="cellnet-test-"))
        self.now = 1000.0
        self.held: dict[str, Attachment] = {}
        self.freed: dict[IPv4Address, float] = {}
        self.open(self.folder / "0")

    def open(self, folder: Path) -> None:
        self.database = Database(folder / "cellnet.db")
        self.ledger = Ledger(self.database)
        self.ledger.adopt_subnet(SUBNET)
        self.place = folder

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)

    @rule(name=names, of=st.sampled_from("xyz"), instance=st.none() | st.integers(0, 3))
    def begin(self, name: str, of: str, instance: int | None) -> None:
        asked = request(name, of=of, instance=instance)
        instances = {held.instance for held in self.held.values() if held.app == asked.app}
        taken = {held.address for held in self.held.values()}
        free = [address for address in USABLE if address not in taken]
        try:
            made = self.ledger.begin(asked, owner=OWNER)
        except Conflict:
            assert name in self.held or instance in instances or not free
            return
        assert name not in self.held
        assert made.instance not in instances
        assert made.instance == (min(set(range(9)) - instances) if instance is None else instance)
        assert made.address == min(free, key=lambda address: (self.freed.get(address, 0.0), address))
        rested = [address for address in free if self.now - self.freed.get(address, 0.0) >= 60]
        assert made.address in rested or not rested
        self.held[name] = made

    @rule(name=names)
    def complete(self, name: str) -> None:
        held = self.held.get(name)
        try:
            self.held[name] = self.ledger.complete(name)
        except Conflict:
            assert held is None or held.phase is Phase.DETACHING
            return
        assert held is not None
        assert self.held[name] == replace(held, phase=Phase.ATTACHED)

    @rule(name=names)
    def begin_detach(self, name: str) -> None:
        leaving = self.ledger.begin_detach(name)
        assert (leaving is None) == (name not in self.held)
        if leaving is not None:
            assert leaving == replace(self.held[name], phase=Phase.DETACHING)
            self.held[name] = leaving

    @precondition(lambda self: any(held.phase is Phase.DETACHING for held in self.held.values()))
    @rule(passed=st.floats(min_value=0.001, max_value=90))
    def finish_detach(self, passed: float) -> None:
        self.now += passed
        name = next(name for name, held in self.held.items() if held.phase is Phase.DETACHING)
        self.ledger.finish_detach(name, now=self.now)
        self.freed[self.held.pop(name).address] = self.now

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.open(self.place)

    @rule()
    def crash(self) -> None:
        """Go on with the files as a killed process leaves them: whatever the connection holds in memory is lost."""
        after = self.folder / str(int(self.place.name) + 1)
        after.mkdir(mode=0o700)
        for file in ("cellnet.db", "cellnet.db-wal"):
            if (self.place / file).exists():
                shutil.copy(self.place / file, after / file)
        self.database.close()
        self.open(after)

    @invariant()
    def the_book_is_the_model(self) -> None:
        found = self.ledger.all()
        assert found == tuple(self.held[name] for name in sorted(self.held))
        assert len({held.address for held in found}) == len(found)
        assert len({(held.app, held.instance) for held in found}) == len(found)


Book.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_any_history_of_the_book_agrees_with_its_model = Book.TestCase
