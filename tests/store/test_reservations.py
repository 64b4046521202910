"""Reservations: what they say comes back whole, over a restart too, and their addresses are nobody else's."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from agent.errors import Conflict, HostRefused
from agent.model.app_port import AppPort
from agent.model.key_owner import KeyOwner
from agent.model.reservation import Reservation
from agent.store.database import Database
from agent.store.ledger import Ledger
from dataplane.state import TargetHttp
from tests.testlib.samples import API, OWNER, WEB, request

FULL = Reservation(
    "api", API, instance=3, ports=(AppPort(8080), AppPort.parse("53/udp")), routes=("api.apps.internal",), tls_target=9000,
    tls_http=TargetHttp.HTTP2, key_owner=KeyOwner(1000, 100), services=(WEB,),
)  # fmt: skip


def reserve(ledger: Ledger, asked: Reservation, *, instance: int = 0) -> IPv4Address:
    place = ledger.reserve(asked, instance=instance, now=0.0).place
    assert place is not None
    return place.address


def attach(ledger: Ledger, name: str) -> IPv4Address:
    return ledger.begin(replace(request(name), app=API), owner=OWNER).address


def detach(ledger: Ledger, name: str) -> None:
    ledger.begin_detach(name)
    ledger.finish_detach(name, now=0.0)


def test_what_is_reserved_comes_back_whole_and_the_last_word_counts(database: Database, ledger: Ledger) -> None:
    reserve(ledger, Reservation("api", WEB))
    full = ledger.reserve(FULL, instance=3, now=0.0)
    reserve(ledger, Reservation("web", WEB))
    again = Ledger(database).reservations
    assert again.get("api") == full
    assert replace(full, place=None) == FULL
    assert list(again.all()) == ["api", "web"]
    assert again.get("none") is None


def test_an_attachment_of_that_name_and_app_has_the_place_which_stays_when_it_ends(ledger: Ledger) -> None:
    address = reserve(ledger, FULL)
    assert attach(ledger, "other") != address
    held = ledger.begin(replace(request("api"), app=API), owner=OWNER)
    place = ledger.reservations.all()["api"].place
    assert place is not None
    assert (held.address, held.guid) == (address, place.guid)
    detach(ledger, "api")
    detach(ledger, "other")
    assert [attach(ledger, f"another-{number}") for number in range(3)].count(address) == 0
    assert attach(ledger, "api") == address


def test_a_place_is_kept_when_it_is_reserved_again_and_changes_with_the_app(ledger: Ledger) -> None:
    first = reserve(ledger, FULL)
    assert reserve(ledger, replace(FULL, ports=())) == first
    assert reserve(ledger, replace(FULL, app=WEB)) != first


def test_what_is_attached_keeps_its_place_when_that_is_reserved(ledger: Ledger) -> None:
    address = attach(ledger, "api")
    assert reserve(ledger, FULL) == address
    detach(ledger, "api")
    assert attach(ledger, "api") == address


def test_the_last_address_may_be_reserved_and_is_free_once_it_is_released(database: Database) -> None:
    ledger = Ledger(database)
    ledger.adopt_subnet(IPv4Network("10.255.1.0/29"))
    addresses = {reserve(ledger, Reservation(f"n{number}", API), instance=number) for number in range(5)}
    assert len(addresses) == 5
    with pytest.raises(Conflict, match="no address left in"):
        attach(ledger, "more")
    attach(ledger, "n3")
    detach(ledger, "n3")
    with pytest.raises(Conflict, match="no address left in"):
        attach(ledger, "more")
    released = ledger.release("n3", now=0.0)
    assert released is not None
    assert released.place is not None
    assert attach(ledger, "more") == released.place.address


def test_an_address_that_is_released_while_it_is_attached_is_free_when_that_ends(database: Database) -> None:
    ledger = Ledger(database)
    ledger.adopt_subnet(IPv4Network("10.255.1.0/30"))  # room for one
    address = reserve(ledger, FULL)
    attach(ledger, "api")
    ledger.release("api", now=0.0)
    with pytest.raises(Conflict, match="no address left"):
        attach(ledger, "more")
    detach(ledger, "api")
    assert attach(ledger, "more") == address


def test_numbers_of_an_app_are_those_of_attachments_and_of_what_is_reserved(ledger: Ledger) -> None:
    ledger.reserve(FULL, instance=3, now=0.0)
    attach(ledger, "other")
    assert ledger.numbers(API, but="none") == {0, 3}
    assert ledger.numbers(API, but="api") == {0}


def test_what_is_released_is_gone_and_again_is_fine(ledger: Ledger) -> None:
    reserve(ledger, FULL)
    assert ledger.release("api", now=0.0) is not None
    assert ledger.release("api", now=0.0) is None
    assert ledger.reservations.all() == {}


def test_a_file_that_cannot_be_written_refuses(database: Database, ledger: Ledger) -> None:
    database.path.unlink()
    with pytest.raises(HostRefused):
        ledger.reserve(FULL, instance=0, now=0.0)
