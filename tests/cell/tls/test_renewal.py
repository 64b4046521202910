"""Certificates are renewed long before they end, and no caller notices: no connection drops, no call fails."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from cryptography import x509

from ca.pem import certificates
from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import Instance
from tests.testlib.node import Connected
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"
POLICY = f"policies:\n- {{from: {WEB}, to: {API}, tcp: [8080, 61443]}}\n"
SHORT = "tls.leaf_lifetime=6s"  # renewed every 2.3 s or so
KEPT = 25  # connections of each kind, from before the first rotation to after the last
MakeCell = Callable[..., CellUnderTest]


def two(cell: CellUnderTest) -> tuple[Instance, Instance]:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True)
    cell.policy_file("shop.yaml", POLICY)
    return web, api


def leaf(instance: Instance) -> x509.Certificate:
    """The certificate in its file."""
    return certificates(Path(instance.environment["CF_INSTANCE_CERT"]).read_bytes(), where="the file")[0]


def serial(secure: ssl.SSLSocket) -> int:
    """Of the certificate that was shown."""
    shown = secure.getpeercert()
    assert shown is not None
    return int(str(shown["serialNumber"]), 16)


def echoed(connection: socket.socket) -> bool:
    connection.sendall(b"echo")
    return connection.recv(4) == b"echo"


def verified(web: Instance, api: Instance) -> bool:
    """Whether a careful client takes what is served."""
    try:
        return web.get_tls(api) == f"hello {web.address}\n"
    except ssl.SSLCertVerificationError:
        return False


@contextlib.contextmanager
def running(*loads: Callable[[Event], int]) -> Iterator[list[Future[int]]]:
    """Loads that go on until the block ends, and count what they did; a failed one raises when it is asked for its result."""
    stop = Event()
    with ThreadPoolExecutor(len(loads)) as pool:
        try:
            yield [pool.submit(load, stop) for load in loads]
        finally:
            stop.set()


def showing(web: Instance) -> ssl.SSLContext:
    """Read from the files as they are now; once more where chain and key were replaced in between."""
    try:
        return web.tls_context(show=web)
    except ssl.SSLError:
        return web.tls_context(show=web)


def test_rotations_under_load_drop_nothing(make_cell: MakeCell) -> None:
    web, api = two(make_cell(SHORT))
    served: set[int] = set()
    first, first_key = leaf(api), Path(api.environment["CF_INSTANCE_KEY"]).read_bytes()
    idle = [web.dial_tls(api) for _ in range(KEPT)]

    def new_connections(stop: Event, context: Callable[[], ssl.SSLContext] = web.tls_context) -> int:
        count = 0
        while not stop.is_set():
            with web.dial_tls(api, context=context()) as secure:
                served.add(serial(secure))
                assert echoed(secure)
            count += 1
        return count

    def new_connections_with_certificates(stop: Event) -> int:
        return new_connections(stop, lambda: showing(web))

    def kept_connections(stop: Event) -> int:
        count, kept = 0, [web.dial_tls(api) for _ in range(KEPT)]
        while not stop.is_set():
            assert all(map(echoed, kept))
            count += 1
        return count

    loads = (new_connections, new_connections, new_connections_with_certificates, kept_connections)
    with running(*loads) as results:
        eventually(lambda: len(served) >= 4 or any(each.done() for each in results))
    assert all(each.result() > 10 for each in results)
    assert all(map(echoed, idle))
    assert leaf(api) != first
    assert Path(api.environment["CF_INSTANCE_KEY"]).read_bytes() != first_key


def test_what_is_served_is_always_far_from_its_end(make_cell: MakeCell) -> None:
    cell = make_cell(SHORT)
    web, api = two(cell)
    ends = datetime.fromisoformat(cell.status().at("ca").text("next_expiry"))
    assert 0 < (ends - datetime.now(UTC)).total_seconds() <= 7
    left = []
    for _ in range(30):
        with web.dial_tls(api) as secure:
            shown = secure.getpeercert(binary_form=True)
        assert shown is not None
        left.append((x509.load_der_x509_certificate(shown).not_valid_after_utc - datetime.now(UTC)).total_seconds())
        time.sleep(0.1)
    assert min(left) > 1.0, "renewed at half of six seconds, on a busy machine"


def test_a_certificate_that_ended_while_the_agent_was_dead_is_replaced_at_its_start(make_cell: MakeCell) -> None:
    cell = make_cell("tls.leaf_lifetime=3s")
    web, api = two(cell)
    live = web.dial_tls(api)
    cell.kill("agent")
    eventually(lambda: leaf(api).not_valid_after_utc < datetime.now(UTC))
    cell.start()
    eventually(lambda: verified(web, api))  # once Envoy, which the status finds connected, has it too
    assert leaf(api).not_valid_after_utc > datetime.now(UTC)
    assert echoed(live)


def test_rotation_goes_on_while_envoy_is_dead_and_after_it(make_cell: MakeCell) -> None:
    cell = make_cell(SHORT)
    web, api = two(cell)
    before = leaf(api)
    cell.kill("envoy")
    eventually(lambda: leaf(api) != before)
    cell.start()
    eventually(lambda: web.connect(api, 61443) is Connected)  # well is: connected; its listeners follow at once
    served = {serial(web.dial_tls(api))}
    assert before.serial_number not in served
    until = time.monotonic() + 20
    while len(served) < 3:
        assert time.monotonic() < until, "it still serves what it had"
        served.add(serial(web.dial_tls(api)))
        time.sleep(0.1)
