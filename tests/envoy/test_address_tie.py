"""On the port for TLS a caller need show no certificate; one that names an app counts only from the address that it carries."""

import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from cryptography.x509 import DNSName, IPAddress, UniformResourceIdentifier

from ca.leaf import Issued
from dataplane.envoy.sockets.container_ports import ContainerPort, await_listening
from dataplane.state import TargetHttp, TlsListener, Workload
from host.namespace import run_in
from tests.testlib.certificates import Ca, client_context, identity, odd_leaf
from tests.testlib.envoy import API, PORT, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import TIMEOUT, EchoApp, read_exactly
from tests.testlib.patience import PATIENCE, eventually

SCRIPT = str(Path(__file__).parent.parent / "testlib" / "in_containers" / "http_app.py")
SPEAKS_HTTP, ELSEWHERE = IPv4Address("10.255.1.4"), IPv4Address("10.255.1.5")
GREETING = b"220 ready"
HERE, OTHER = IPAddress(WEB), IPAddress(ip_address("10.255.1.9"))
ID = UniformResourceIdentifier("spiffe://cell.internal/org/acme/space/shop/app/web")

FOREIGN_ID = UniformResourceIdentifier("spiffe://elsewhere/org/acme/space/shop/app/web")

LEAVES: dict[str, tuple[Callable[[Ca], Issued | None], bool]] = {
    "none": (lambda ca: None, True),
    "its own": (lambda ca: ca.leaf(identity()), True),
    "without an id": (lambda ca: odd_leaf(ca.cell, DNSName("monitor")), True),
    "without an id, of another address": (lambda ca: odd_leaf(ca.cell, OTHER), True),
    "its own, of another address": (lambda ca: ca.leaf(identity(address=str(OTHER.value))), False),
    "another app's, of another address": (lambda ca: ca.leaf(identity("acme/shop/db", address=str(OTHER.value))), False),
    "without an address": (lambda ca: odd_leaf(ca.cell, ID), False),
    "with two addresses": (lambda ca: odd_leaf(ca.cell, ID, HERE, OTHER), False),
    "of another trust domain and address": (
        lambda ca: odd_leaf(ca.cell, UniformResourceIdentifier("spiffe://x/y"), OTHER),
        False,
    ),
}


@dataclass
class Scene:
    """`api` speaks first, in plain TCP; at `SPEAKS_HTTP` there is a target that speaks HTTP."""

    cell: EnvoyCell
    pair: EnvoyPair
    app: EchoApp

    def context(self, leaf: Issued | None) -> ssl.SSLContext:
        return client_context(self.cell.ca.root.bundle(), leaf=leaf)

    def dial(
        self,
        context: ssl.SSLContext,
        *,
        to: IPv4Address = API,
        source: IPv4Address = WEB,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        made = run_in(
            self.pair.web.path,
            lambda: socket.create_connection((str(to), PORT), timeout=TIMEOUT, source_address=(str(source), 0)),
        )
        return context.wrap_socket(made, server_hostname="api.test", session=session)

    def greeting(self, connection: ssl.SSLSocket) -> bytes:
        """What the app says first; nothing where the connection is closed."""
        try:
            return read_exactly(connection, len(GREETING))
        except OSError:
            return b""


def speaks_http(pair: EnvoyPair) -> "subprocess.Popen[bytes]":
    process = pair.api.start(sys.executable, SCRIPT, "http1", str(SPEAKS_HTTP), "8080", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    cell, pair = EnvoyCell(), EnvoyPair()
    pair.api.run("ip", "address", "add", f"{SPEAKS_HTTP}/24", "dev", "eth0")
    pair.web.run("ip", "address", "add", f"{ELSEWHERE}/24", "dev", "eth0")
    app, http = EchoApp(pair.api.path, greeting=GREETING), speaks_http(pair)
    try:
        cell.start()
        cell.serve(pair.workload(cell.leaf()))
        listener = TlsListener(PORT, cell.leaf(address=SPEAKS_HTTP), 8080, http=TargetHttp.HTTP1)
        cell.put(Workload("http", SPEAKS_HTTP, 8, pair.api.path, listeners=(listener,)))
        await_listening(ContainerPort(SPEAKS_HTTP, PORT, pair.api.path), timeout=PATIENCE)
        yield Scene(cell, pair, app)
    finally:
        app.close()
        http.kill()
        http.communicate()
        pair.close()
        cell.close()


@pytest.mark.parametrize(("leaf", "admitted"), LEAVES.values(), ids=LEAVES)
def test_plain_tcp_is_closed_to_a_certificate_from_elsewhere_before_the_app_is_dialled(
    scene: Scene, leaf: Callable[[Ca], Issued | None], *, admitted: bool
) -> None:
    before = len(scene.app.peers)
    with scene.dial(scene.context(leaf(scene.cell.ca))) as connection:
        assert scene.greeting(connection) == (GREETING if admitted else b"")
    assert scene.app.peers[before:] == ([str(WEB)] if admitted else [])


@pytest.mark.parametrize(("leaf", "admitted"), LEAVES.values(), ids=LEAVES)
def test_http_answers_403_to_a_certificate_from_elsewhere_and_names_no_caller_to_the_app(
    scene: Scene, leaf: Callable[[Ca], Issued | None], *, admitted: bool
) -> None:
    shown = leaf(scene.cell.ca)
    with scene.dial(scene.context(shown), to=SPEAKS_HTTP) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK" if admitted else b"HTTP/1.1 403 Forbidden")
    assert (b"x-forwarded-client-cert" in answer.lower()) is (admitted and shown is not None)


def test_a_session_that_is_resumed_from_elsewhere_is_closed(scene: Scene) -> None:
    context = scene.context(scene.cell.ca.leaf(identity()))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # which has its ticket when the handshake is done
    with scene.dial(context) as connection:
        assert scene.greeting(connection) == GREETING
        session = connection.session
    for source, greeting in ((WEB, GREETING), (ELSEWHERE, b"")):
        with scene.dial(context, source=source, session=session) as connection:
            assert connection.session_reused
            assert scene.greeting(connection) == greeting


def test_callers_that_are_refused_write_nothing_into_the_log(scene: Scene) -> None:
    log = scene.cell.envoy.log
    before = log.read_text()
    context = scene.context(scene.cell.ca.leaf(identity(address=str(OTHER.value))))
    with scene.dial(context) as connection:
        assert scene.greeting(connection) == b""
    eventually(lambda: scene.cell.envoy.is_live())
    assert log.read_text() == before
