"""In strict mode nothing passes without a certificate: where none can be renewed, those that are valid stay in use, every call
goes on, and the status says what is wrong.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from ca.pem import certificates
from tests.testlib.agents.clocked import DAY, ClockedCell
from tests.testlib.attacks.bystander import Bystander
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import echoed
from tests.testlib.disks import SmallDisksCell, full
from tests.testlib.failures import terminate
from tests.testlib.instance import Instance
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB, policies
from tests.testlib.status import reports

HOUR = timedelta(hours=1)
RIGHTS = policies(f"from: acme/shop/*, to: {API}, tcp: 8080", f"from: {API}, to: acme/shop/*, tcp: 8080")
MakeCell = Callable[..., CellUnderTest]
STRICT, SHORT = "tls.mtls=strict", "tls.leaf_lifetime=12s"


@contextmanager
def calling(cell: CellUnderTest) -> Iterator[tuple[Instance, Instance, Bystander]]:
    """web, api, and web's calls to api, of which none may fail to the end, nor a stream that is open all the while."""
    web, api = cell.containers(WEB, API)
    cell.policy_file("shop.yaml", RIGHTS)
    cell.wait_well()
    stream = web.dial(api, 8080)
    assert echoed(stream)
    with Bystander(lambda: web.dial(api, 8080)) as calls:
        yield web, api, calls
        go_on(calls)
    assert echoed(stream)
    assert calls.failures == []


def go_on(calls: Bystander) -> None:
    """Some more calls come to their end."""
    before = calls.calls()
    eventually(lambda: calls.calls() >= before + 20)


def end_of(instance: Instance) -> object:
    """When the certificate in its file ends."""
    return leaf_of(instance).not_valid_after_utc


def leaf_of(instance: Instance) -> x509.Certificate:
    return certificates(Path(instance.environment["CF_INSTANCE_CERT"]).read_bytes(), where="the file")[0]


def test_without_its_ca_key_a_cell_goes_on_and_reports_it_and_a_new_agent_does(make_cell: MakeCell) -> None:
    cell = make_cell(STRICT, SHORT)
    key = cell.lab.root / "var/lib/cellnet/ca/cell.key"
    with calling(cell) as (_web, api, calls):
        kept = key.rename(cell.lab.root / "cell.key")
        eventually(lambda: reports(cell, "identity", "cell.key is missing"))
        end = end_of(api)
        eventually(lambda: end_of(api) != end)  # the agent has the key in memory
        go_on(calls)
        terminate(cell)
        eventually(lambda: "no certificate can be issued" in cell.cellnet("status", code=None).out)  # says the new agent
        go_on(calls)
        kept.rename(key)
        cell.start()
    cell.wait_well()


def test_on_a_full_disk_certificates_are_renewed_and_calls_go_on(make_cell: MakeCell) -> None:
    cell = make_cell(STRICT, SHORT, kind=SmallDisksCell)
    state, run = cell.lab.root / "var/lib/cellnet", cell.lab.root / "run/cellnet"
    with calling(cell) as (_web, api, calls):
        with full(state, cell.lab.log.parent) as fill:
            eventually(lambda: reports(cell, "disk", f"{state} is full"))
            for _ in range(2):
                end = end_of(api)
                eventually(lambda end=end: end_of(api) != end)  # type: ignore[misc]
                fill()
            go_on(calls)
        with full(run):
            eventually(lambda: reports(cell, "identity", "no new certificate for api: cannot write"))
            go_on(calls)
        end = end_of(api)
        eventually(lambda: end_of(api) != end)
    cell.wait_well()


def test_a_clock_that_is_an_hour_off_costs_no_call_and_one_that_is_days_off_is_reported(make_cell: MakeCell) -> None:
    """The agent's alone: Envoy, and other cells, have the right time, so what it issues must be valid by that."""
    cell = make_cell(STRICT, kind=ClockedCell)
    assert isinstance(cell.lab, ClockedCell)
    cell.lab.set_clock(timedelta(0))
    with calling(cell) as (_web, api, calls):
        end = end_of(api)
        for number, offset in enumerate((HOUR, -HOUR, timedelta(0))):
            cell.lab.set_clock(offset)
            new = cell.run_app(f"acme/shop/new-{number}", port=8080, server=True)
            cell.sync()
            assert echoed(new.dial(api, 8080))
            assert echoed(api.dial(new, 8080))
            cell.wait_well()
        assert end_of(api) == end, "what is valid stays in use"
        cell.lab.set_clock(-5 * DAY)
        eventually(lambda: reports(cell, "identity", "no new certificate for api: the issuer is valid from"))
        go_on(calls)
        cell.lab.set_clock(timedelta(0))
        cell.wait_well()
