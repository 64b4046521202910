"""TLS on 61443 as callers see it: which of them get in, what the app sees, and what never reaches it."""

import socket
import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ca.leaf import Issued
from tests.testlib.certificates import TODAY, client_context, identity, load_leaf, make_ca
from tests.testlib.envoy import API, PORT, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial, dial_tls, exchange, lax_context, read_exactly


@pytest.fixture
def served(cell: EnvoyCell, pair: EnvoyPair, app: EchoApp) -> EchoApp:
    cell.serve(pair.workload(cell.leaf()))
    return app


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side ends it without a word."""
    try:
        return connection.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True


@pytest.mark.parametrize("name", ["api.test", str(API)])
def test_pythons_tls_verifies_name_and_address_against_the_bundle(
    cell: EnvoyCell, pair: EnvoyPair, served: EchoApp, name: str
) -> None:
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle()), name=name) as connection:
        assert exchange(connection, b"hello") == b"hello"


def test_a_name_that_is_not_in_the_certificate_is_not_verified(cell: EnvoyCell, pair: EnvoyPair, served: EchoApp) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        dial_tls(pair.web.path, client_context(cell.ca.root.bundle()), name="other.test")


@pytest.mark.parametrize("check", [("-verify_hostname", "api.test"), ("-verify_ip", str(API))])
def test_openssl_verifies_name_and_address_against_the_bundle(
    cell: EnvoyCell, pair: EnvoyPair, served: EchoApp, tmp_path: Path, check: tuple[str, str]
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(cell.ca.root.bundle())
    said = pair.web.run(
        "openssl", "s_client", "-connect", f"{API}:{PORT}", "-CAfile", str(bundle), "-x509_strict", "-verify_return_error",
        *check, stdin=b"",
    )  # fmt: skip
    assert "Verify return code: 0 (ok)" in said


def test_the_app_sees_the_callers_address(cell: EnvoyCell, pair: EnvoyPair, served: EchoApp) -> None:
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        exchange(connection, b"hello")
    assert served.peers == ["10.255.1.2"]


def test_the_container_itself_may_call_its_own_port(cell: EnvoyCell, pair: EnvoyPair, served: EchoApp) -> None:
    with dial_tls(pair.api.path, client_context(cell.ca.root.bundle())) as connection:
        assert exchange(connection, b"hello") == b"hello"


def test_an_app_may_speak_first_and_end_first(cell: EnvoyCell, pair: EnvoyPair) -> None:
    app = EchoApp(pair.api.path, greeting=b"220 ready")
    try:
        cell.serve(pair.workload(cell.leaf()))
        with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
            assert read_exactly(connection, 9) == b"220 ready"
    finally:
        app.close()


def test_a_megabyte_passes_both_ways(cell: EnvoyCell, pair: EnvoyPair, served: EchoApp) -> None:
    words = bytes(range(256)) * 4096
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        got = b"".join(exchange(connection, words[at : at + 65536]) for at in range(0, len(words), 65536))
    assert got == words


def test_an_app_that_is_not_there_ends_the_connection_at_once(cell: EnvoyCell, pair: EnvoyPair) -> None:
    cell.serve(pair.workload(cell.leaf()))
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        assert is_closed(connection)


def test_a_valid_client_certificate_is_taken(cell: EnvoyCell, pair: EnvoyPair, served: EchoApp) -> None:
    leaf = cell.ca.leaf(identity("acme/shop/web"))
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle(), leaf=leaf)) as connection:
        assert exchange(connection, b"hello") == b"hello"


def attempt(pair: EnvoyPair, context: ssl.SSLContext) -> bytes:
    """What a caller gets back; under TLS 1.3 its own handshake succeeds before it learns that it was refused."""
    try:
        with dial_tls(pair.web.path, context) as connection:
            return exchange(connection, b"evil")
    except (ssl.SSLError, ConnectionError):
        return b""


def expired(cell: EnvoyCell) -> Issued:
    return cell.ca.leaf(identity("acme/shop/web"), now=TODAY - timedelta(days=1), lifetime=timedelta(hours=1))


def foreign(cell: EnvoyCell) -> Issued:
    return make_ca().leaf(identity("acme/shop/web"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("whose", [foreign, expired])
def test_a_client_certificate_that_does_not_verify_never_reaches_the_app(
    cell: EnvoyCell, pair: EnvoyPair, served: EchoApp, whose: Callable[[EnvoyCell], Issued], version: ssl.TLSVersion
) -> None:
    context = client_context(cell.ca.root.bundle(), leaf=whose(cell))
    context.minimum_version = context.maximum_version = version
    assert [attempt(pair, context) for _ in range(20)] == [b""] * 20
    # one that is let in comes after all of them, so whatever they had caused would be there by now
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        exchange(connection, b"good")
    assert served.received == [b"good"]
    assert len(served.peers) == 1


def test_plain_text_is_closed_and_never_reaches_the_app(cell: EnvoyCell, pair: EnvoyPair, served: EchoApp) -> None:
    with dial(pair.web.path) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
        # what comes, if anything, is a TLS alert
        assert not connection.recv(1000).startswith(b"HTTP")
        assert is_closed(connection)
    assert served.peers == []


def test_a_client_that_connects_and_sends_nothing_does_not_reach_the_app(
    cell: EnvoyCell, pair: EnvoyPair, served: EchoApp
) -> None:
    with dial(pair.web.path):
        time.sleep(0.2)
        assert served.peers == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(pair: EnvoyPair, served: EchoApp, version: ssl.TLSVersion) -> None:
    context = lax_context()
    context.minimum_version = context.maximum_version = version
    # it is Envoy that says no, not the client's own library
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        dial_tls(pair.web.path, context)
    assert served.peers == []


@pytest.mark.parametrize(
    "cipher",
    ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "AES128-GCM-SHA256", "AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"],
)
def test_ciphers_without_forward_secrecy_and_authentication_are_refused(pair: EnvoyPair, served: EchoApp, cipher: str) -> None:
    context = lax_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="ALERT_HANDSHAKE_FAILURE"):
        dial_tls(pair.web.path, context)
    assert served.peers == []


@pytest.mark.parametrize(
    "cipher", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
)
def test_good_ciphers_of_tls_1_2_are_taken(cell: EnvoyCell, pair: EnvoyPair, served: EchoApp, cipher: str) -> None:
    context = client_context(cell.ca.root.bundle())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with dial_tls(pair.web.path, context) as connection:
        used = connection.cipher()
        assert used is not None
        assert used[0] == cipher


def test_without_http_no_application_protocol_is_agreed_on(cell: EnvoyCell, pair: EnvoyPair, served: EchoApp) -> None:
    context = client_context(cell.ca.root.bundle())
    context.set_alpn_protocols(["h2", "http/1.1"])
    with dial_tls(pair.web.path, context) as connection:
        assert connection.selected_alpn_protocol() is None
        assert exchange(connection, b"hello") == b"hello"


def test_without_a_trust_bundle_no_client_is_served(cell: EnvoyCell, pair: EnvoyPair, app: EchoApp) -> None:
    cell.publish(trust_bundle=b"")
    cell.put(pair.workload(cell.leaf()))
    time.sleep(0.5)
    context = lax_context()
    load_leaf(context, foreign(cell))
    with pytest.raises((ssl.SSLError, OSError)):
        dial_tls(pair.web.path, context)
    assert app.peers == []
