"""The agent's clock is set by an hour or a day, forward and back: certificates stay good, and nothing else notices."""

import contextlib
import sqlite3
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from agent.errors import HostRefused
from ca.certificate import LARGEST_SKEW
from ca.pem import certificates
from lab.cell import Cell
from tests.testlib.agents.clocked import DAY, FIRST_OFFSET, ClockedCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import LiveConnections
from tests.testlib.containers import Attach
from tests.testlib.failures import terminate
from tests.testlib.instance import Instance
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, follows_policy, three_apps
from tests.testlib.status import reports

HOUR = timedelta(hours=1)
SKEW = LARGEST_SKEW + timedelta(minutes=1)
RESTLESS = 100  # looks at the clock within a second


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return ClockedCell


@pytest.fixture(autouse=True)
def right_at_first_and_last(cell: CellUnderTest) -> Iterator[None]:
    lab_of(cell).set_clock(timedelta(0))
    yield
    lab_of(cell).set_clock(timedelta(0))


def lab_of(cell: CellUnderTest) -> ClockedCell:
    assert isinstance(cell.lab, ClockedCell)
    return cell.lab


def leaf(instance: Instance) -> x509.Certificate:
    """The one in its file."""
    return certificates(Path(instance.environment["CF_INSTANCE_CERT"]).read_bytes(), where="the file")[0]


def served(web: Instance, api: Instance) -> x509.Certificate:
    """The one that a caller sees, whatever it thinks of its dates."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with web.dial_tls(api, context=context) as secure:
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def good(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether a peer with this clock takes it, and it ends no later than its lifetime from now."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc <= now + DAY + SKEW


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_after_every_jump_certificates_are_good_and_nothing_else_has_changed(cell: CellUnderTest, attach: Attach) -> None:
    lab = lab_of(cell)
    web, api, other = three_apps(cell)
    live = LiveConnections(web, api)
    for offset in (HOUR, DAY, DAY - HOUR, -HOUR, timedelta(0), -DAY, timedelta(0)):
        lab.set_clock(offset)
        eventually(lambda: good(leaf(api), lab.now()) and served(web, api) == leaf(api))
        status = cell.wait_well()
        assert lab.now() - timedelta(minutes=5) < moment(status.at("cell").text("started")) <= lab.now()
        assert lab.now() - timedelta(minutes=5) < moment(status.at("last_apply").text("at")) <= lab.now()
        assert moment(status.at("ca").text("next_expiry")) > lab.now()
        before = lab.asked()
        time.sleep(0.2)
        assert lab.asked() - before < RESTLESS * 0.2
        assert live.go_on()
    assert good(leaf(attach("acme/shop/more")), lab.now())
    assert follows_policy(web, api, other)


def test_what_is_given_back_while_the_clock_is_wrong_rests_as_long_as_ever(cell: CellUnderTest) -> None:
    lab, path = lab_of(cell), cell.lab.root / "var/lib/cellnet/cellnet.db"
    for offset, earliest in ((-5 * DAY, FIRST_OFFSET), (DAY, DAY)):  # it knows what has passed since its start
        lab.set_clock(offset)
        cell.allow(OTHER, API, "tcp/8080")
        began = datetime.now(UTC)
        cell.cellnet("policy", "delete", OTHER, API, "tcp/8080")
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as found:
            given_back = [at for (at,) in found.execute("SELECT released FROM tags WHERE app IN (?, ?)", (OTHER, API))]
        assert len(given_back) == 2
        assert min(given_back) >= (began + earliest).timestamp() - 1


def test_a_clock_from_before_its_authorities_is_reported_and_all_recovers_with_it(cell: CellUnderTest, attach: Attach) -> None:
    lab = lab_of(cell)
    web, api, other = three_apps(cell)
    lab.set_clock(-5 * DAY)
    eventually(lambda: reports(cell, "identity", "no new certificate for api: the issuer is valid from"))
    with pytest.raises(HostRefused, match="the issuer is valid from"):
        attach("acme/shop/more")
    assert "more" not in cell.attachments()
    terminate(cell)
    cell.start(well=False)
    eventually(lambda: "no new certificate for the cell: " in cell.cellnet("status", code=1).out)
    assert follows_policy(web, api, other)
    eventually(lambda: good(served(web, api), datetime.now(UTC)))
    lab.set_clock(timedelta(0))
    cell.wait_well()
    eventually(lambda: good(leaf(api), datetime.now(UTC)) and served(web, api) == leaf(api))
    assert follows_policy(web, api, other)
