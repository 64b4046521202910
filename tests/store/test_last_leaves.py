"""An address waits for the last certificate that names it before another app gets it, where certificates prove who calls."""

import itertools
import sqlite3
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from agent.store.database import Database
from agent.store.last_leaves import ClockBounds, LastLeaf
from agent.store.ledger import Ledger
from agent.store.schema import MIGRATIONS, migrate
from tests.testlib.disks import full
from tests.testlib.samples import OWNER, app, request

DAY, NOON = 86400.0, 1_800_000_000.0


def at(now: float) -> ClockBounds:
    return ClockBounds(now, now)


class Book:
    """A ledger of four addresses, by a clock that the test sets; `proving` as ever."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        ledger.adopt_subnet(IPv4Network("10.255.1.0/29"))  # .2 to .6

    def attach(self, name: str, now: float, *, life: float = DAY) -> int:
        """Of the app that the name begins with; the last octet of its address. Its certificate is issued at once."""
        held = self.ledger.begin(request(name, of=name[0]), owner=OWNER, proving=at(now))
        self.issue(held.address, name[0], now, life=life)
        return held.address.packed[-1]

    def issue(self, address: IPv4Address, of: str, now: float, *, life: float = DAY, clock: float | None = None) -> None:
        """A certificate; `clock` is what the clock shows, if it is not `now`."""
        self.ledger.remember_leaf(address, LastLeaf(str(app(of)), now, now + life), now=at(now if clock is None else clock))

    def detach(self, name: str, now: float) -> None:
        self.ledger.begin_detach(name)
        self.ledger.finish_detach(name, now=now)


@pytest.fixture
def book(ledger: Ledger) -> Book:
    return Book(ledger)


def test_another_app_gets_an_address_only_when_the_last_certificate_has_ended(book: Book) -> None:
    assert [book.attach(f"x{number}", NOON) for number in range(5)] == [2, 3, 4, 5, 6]
    book.issue(IPv4Address("10.255.1.2"), "x", NOON + DAY / 2)
    book.issue(IPv4Address("10.255.1.2"), "x", NOON + DAY / 2, life=60)  # the lifetime has been changed
    for name in ("x0", "x3"):
        book.detach(name, NOON + DAY / 2)
    assert book.attach("y0", NOON + DAY) == 5, "freed after .2, and the first whose certificate has ended"
    book.detach("x1", NOON + DAY)
    assert book.attach("y1", NOON + DAY * 1.4) == 3
    book.detach("x2", NOON + DAY * 1.4)
    assert book.attach("y2", NOON + DAY * 1.5) == 2


def test_its_own_app_gets_an_address_at_once_and_after_a_minute_before_one_that_was_never_used(book: Book) -> None:
    book.attach("x0", NOON)
    book.detach("x0", NOON)
    assert book.attach("x1", NOON + 59) == 3
    assert book.attach("y1", NOON + 61) == 4
    assert book.attach("x2", NOON + 61) == 2
    assert [book.attach(name, NOON + 61) for name in ("y2", "y3")] == [5, 6]
    book.detach("x2", NOON + 62)
    assert book.attach("x3", NOON + 62) == 2


def test_where_all_are_named_by_another_apps_certificates_the_one_freed_longest_ago_is_given(book: Book) -> None:
    for number in range(5):
        book.attach(f"x{number}", NOON)
    for name in ("x3", "x1"):
        book.detach(name, NOON)
    assert book.attach("y0", NOON + 1) == 5
    assert book.ledger.last_leaf(IPv4Address("10.255.1.5")) == LastLeaf("acme/shop/y", NOON + 1, NOON + 1 + DAY)
    book.detach("y0", NOON + 2)
    assert book.attach("y1", NOON + 3) == 5, "its own by now"
    assert book.attach("z0", NOON + 3) == 3


def test_one_that_went_to_another_app_early_waits_for_the_certificates_of_both(book: Book) -> None:
    for number in range(5):
        book.attach(f"x{number}", NOON)
    book.detach("x0", NOON)
    assert book.attach("y0", NOON, life=60) == 2
    book.detach("y0", NOON)
    book.detach("x1", NOON + 1)
    assert book.attach("x5", NOON + 60) == 3, "y's certificate has ended, and x's of before has not"


def test_where_certificates_prove_nothing_the_order_is_that_of_release(book: Book) -> None:
    for number in range(5):
        book.attach(f"x{number}", NOON)
    book.detach("x3", NOON)
    assert book.ledger.begin(request("y0", of="y"), owner=OWNER).address == IPv4Address("10.255.1.5")


@pytest.mark.parametrize("ahead", [DAY / 24, 400 * DAY])
def test_a_certificate_that_a_wrong_clock_has_issued_counts_from_when_the_clock_is_right(book: Book, ahead: float) -> None:
    for number in range(5):
        book.attach(f"x{number}", NOON + ahead)
    book.detach("x0", NOON)
    book.detach("x1", NOON + 1)
    assert book.attach("x5", NOON) == 2
    assert book.attach("y0", NOON + DAY - 1) == 3, "none is left"
    book.detach("x2", NOON + 2)
    book.detach("x5", NOON + 3)
    assert book.attach("y1", NOON + DAY) == 4


def test_a_certificate_of_a_wrong_clock_is_judged_where_none_proves_anything(book: Book) -> None:
    book.attach("x0", NOON + 400 * DAY)
    book.issue(IPv4Address("10.255.1.2"), "y", NOON)
    held = book.ledger.last_leaf(IPv4Address("10.255.1.2"))
    assert held == LastLeaf("acme/shop/y", NOON, NOON + DAY)


def test_a_clock_that_was_set_back_takes_nothing_from_a_certificate(book: Book) -> None:
    """An hour off, as an agent sees it that knows better."""
    book.attach("x0", NOON)
    book.issue(IPv4Address("10.255.1.2"), "y", NOON - 3600, clock=NOON + 1)
    held = book.ledger.last_leaf(IPv4Address("10.255.1.2"))
    assert held is not None
    assert held.ends == NOON + DAY


def test_what_is_known_is_there_after_a_reopening_and_is_not_written_twice(path: Path, database: Database, book: Book) -> None:
    book.attach("x0", NOON)
    before = database.version()
    book.issue(IPv4Address("10.255.1.2"), "x", NOON)
    assert database.version() == before
    database.close()
    assert Ledger(Database(path)).last_leaf(IPv4Address("10.255.1.2")) == LastLeaf("acme/shop/x", NOON, NOON + DAY)


def test_a_certificate_is_renewed_on_a_full_disk_and_known_once_there_is_room(small_disk: Path) -> None:
    database = Database(small_disk / "state" / "cellnet.db")
    book, numbers = Book(Ledger(database)), itertools.count()
    for number in range(5):
        book.attach(f"x{number}", NOON)
    with full(small_disk):
        while database.trouble is None:  # a little still goes into the last page
            book.issue(IPv4Address("10.255.1.6"), "x", NOON + next(numbers))
        book.issue(IPv4Address("10.255.1.2"), "x", NOON + 1000)
    for name in ("x0", "x1"):
        book.detach(name, NOON + 3000)
    assert book.attach("y0", NOON + DAY) == 3
    database.close()


def test_what_an_earlier_version_has_freed_rests_for_a_day(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    earlier = sqlite3.connect(path, isolation_level=None)
    migrate(earlier, migrations=MIGRATIONS[:4])
    earlier.executemany("INSERT INTO freed (address, released) VALUES (?, ?)",
                        [(int(IPv4Address(f"10.255.1.{last}")), NOON + last) for last in range(2, 7)])  # fmt: skip
    earlier.close()
    book = Book(Ledger(Database(path)))
    assert book.ledger.last_leaf(IPv4Address("10.255.1.2")) == LastLeaf("", NOON + 2, NOON + 2 + DAY)
    assert book.attach("x0", NOON + DAY + 2) == 2
