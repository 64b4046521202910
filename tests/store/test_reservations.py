"""Reservations: what they say comes back whole, over a restart too."""

import pytest

from agent.errors import HostRefused
from agent.model.app_port import AppPort
from agent.model.key_owner import KeyOwner
from agent.model.reservation import Reservation
from agent.store.database import Database
from agent.store.reservations import Reservations
from dataplane.state import TargetHttp
from tests.testlib.samples import API, WEB

FULL = Reservation(
    "api", API, instance=3, ports=(AppPort(8080), AppPort.parse("53/udp")), routes=("api.apps.internal",), tls_target=9000,
    tls_http=TargetHttp.HTTP2, key_owner=KeyOwner(1000, 100), services=(WEB,),
)  # fmt: skip


def test_what_is_reserved_comes_back_whole_and_the_last_word_counts(database: Database) -> None:
    Reservations(database).put(Reservation("api", WEB))
    Reservations(database).put(FULL)
    Reservations(database).put(Reservation("web", WEB))
    again = Reservations(database)
    assert again.get("api") == FULL
    assert list(again.all()) == ["api", "web"]
    assert again.get("none") is None


def test_what_is_released_is_gone_and_again_is_fine(database: Database) -> None:
    reservations = Reservations(database)
    reservations.put(FULL)
    assert reservations.drop("api")
    assert not reservations.drop("api")
    assert reservations.all() == {}


def test_a_file_that_cannot_be_written_refuses(database: Database) -> None:
    database.path.unlink()
    with pytest.raises(HostRefused):
        Reservations(database).put(FULL)
