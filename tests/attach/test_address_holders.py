"""Addresses and the certificates that name them, by a clock that is set while the agent runs."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

from agent.attach.address_holders import AddressHolders
from agent.daemon.clock import Clock
from agent.model.attachment import Attachment
from agent.model.status import Event
from agent.store.ledger import Ledger
from ca.certificate import Validity
from tests.testlib.beds.attach import holders
from tests.testlib.samples import OWNER, request

NOON, DAY = datetime(2026, 11, 21, 12, tzinfo=UTC), timedelta(days=1)


class SettableClock:
    """Time passes by `wait`, the clock is set by `jump`."""

    def __init__(self) -> None:
        self.passed, self.off = timedelta(), timedelta()
        self.clock = Clock(now=lambda: NOON + self.passed + self.off, elapsed=lambda: self.passed.total_seconds())

    def wait(self, passed: timedelta) -> None:
        self.passed += passed

    def jump(self, by: timedelta) -> None:
        self.off += by


def attached(made: AddressHolders, name: str, clock: Clock) -> Attachment:
    held = made.begin(request(name, of=name[0]), owner=OWNER)
    made.remember(held, Validity(clock.now(), clock.now() + DAY))
    return held


def five(ledger: Ledger, settable: SettableClock, *, proving: bool = True) -> AddressHolders:
    """All addresses of a subnet were x's, the first and the second are free."""
    ledger.adopt_subnet(IPv4Network("10.255.1.0/29"))
    made = holders(ledger, clock=settable.clock, proving=proving)
    for number in range(5):
        attached(made, f"x{number}", settable.clock)
    for name in ("x0", "x1"):
        ledger.begin_detach(name)
        ledger.finish_detach(name, now=settable.clock.seconds())
    return made


async def early(made: AddressHolders) -> list[str]:
    """What is reported."""
    rows = await made.rows()
    events = rows["last_early_addresses"]
    assert isinstance(events, tuple)
    assert rows["early_addresses"] == len(events)
    return [each.what for each in events if isinstance(each, Event)]


async def test_an_address_that_is_given_early_is_reported_with_its_last_holder(ledger: Ledger) -> None:
    made = five(ledger, SettableClock())
    assert attached(made, "y0", Clock()).address == IPv4Address("10.255.1.2")
    what = "'y0' has 10.255.1.2, which a certificate of acme/shop/x names until 2026-11-22 12:00:00 UTC"
    assert await early(made) == [what]


async def test_its_own_app_and_one_that_comes_after_the_end_are_not_reported(ledger: Ledger) -> None:
    settable = SettableClock()
    made = five(ledger, settable)
    attached(made, "x5", settable.clock)
    settable.wait(DAY)
    assert attached(made, "y0", settable.clock).address == IPv4Address("10.255.1.3")
    assert await early(made) == []


async def test_no_clock_that_is_set_ahead_ends_a_certificate(ledger: Ledger) -> None:
    settable = SettableClock()
    made = five(ledger, settable)
    settable.jump(2 * DAY)
    attached(made, "y0", settable.clock)
    assert len(await early(made)) == 1


async def test_a_clock_that_is_set_back_makes_none_last_for_longer_than_callers_take_it(ledger: Ledger) -> None:
    settable = SettableClock()
    made = five(ledger, settable)
    settable.jump(-DAY / 24)
    settable.wait(DAY)
    attached(made, "y0", settable.clock)
    assert len(await early(made)) == 1, "their clocks may be wrong, too"
    settable.wait(DAY / 24)
    attached(made, "z0", settable.clock)
    assert len(await early(made)) == 1


async def test_where_certificates_prove_nothing_nothing_is_early(ledger: Ledger) -> None:
    made = five(ledger, SettableClock(), proving=False)
    attached(made, "y0", Clock())
    assert await early(made) == []
