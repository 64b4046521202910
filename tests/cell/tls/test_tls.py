"""61443 as its callers see it: a certificate that verifies, strong ciphers only, and an app that sees its caller."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive, is_ended
from tests.testlib.instance import TLS_PORT, Instance
from tests.testlib.node import Refused

pytestmark = pytest.mark.release

WEB, API = "acme/shop/web", "acme/shop/api"
ROUTE = "api.apps.internal"
NAMES = (ROUTE, f"0.{ROUTE}", "api.shop.acme.cell.internal", "0.api.shop.acme.cell.internal")
POLICY = f"policies:\n- {{from: {WEB}, to: {API}, tcp: [8080, 61443]}}\n"
STRONG = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305")
# forward secrecy without authenticated encryption, either without the other, neither
WEAK = ("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA",
        "AES128-GCM-SHA256", "AES256-SHA", "DHE-RSA-AES128-GCM-SHA256", "AECDH-AES128-SHA")  # fmt: skip


@pytest.fixture
def two(cell: CellUnderTest) -> tuple[Instance, Instance]:
    """web may reach api on 8080 and 61443."""
    web = cell.run_app(WEB)
    api = cell.run_app(API, port=8080, server=True, routes=[ROUTE])
    cell.policy_file("shop.yaml", POLICY)
    return web, api


def openssl(web: Instance, api: Instance, *options: str, trust: str | None = None) -> str:
    """What `openssl s_client` says of api's port when it is called from inside web."""
    target = ["-connect", f"{api.address}:{TLS_PORT}", "-CAfile", trust or web.environment["CF_INSTANCE_CA"]]
    return web.run("openssl", "s_client", *target, "-x509_strict", "-brief", *options, code=None)


def request(web: Instance, api: Instance, *options: str) -> str:
    """The same with a request for a page, which is printed."""
    words = " ".join(("openssl s_client -quiet -verify_return_error", "-connect", f"{api.address}:{TLS_PORT}", *options))
    return web.run("sh", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | {words}", code=None)


# the server's identity


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_verifies_address_and_names_to_the_letter(two: tuple[Instance, Instance], version: str) -> None:
    web, api = two
    bundle = web.environment["CF_INSTANCE_CA"]
    names = [f"-verify_hostname {name}" for name in NAMES]
    for right in (f"-verify_ip {api.address}", *names):
        said = request(web, api, "-x509_strict", "-CAfile", bundle, version, right)
        assert f"hello {web.address}" in said, f"{right}: {said}"
    for wrong in (f"-verify_ip {web.address}", "-verify_hostname web.apps.internal", "-verify_hostname apps.internal"):
        said = request(web, api, "-x509_strict", "-CAfile", bundle, version, wrong)
        assert "hello" not in said, wrong
        assert "mismatch" in said, f"{wrong}: {said}"


def test_the_chain_ends_in_the_bundle_that_ca_show_prints(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    web, api = two
    shown = cell.cellnet("ca", "show", "--pem").out
    bundle = cell.lab.root / "shown.pem"
    bundle.write_text(shown)
    with open(web.environment["CF_INSTANCE_CA"]) as file:
        assert file.read() == shown
    assert shown == (cell.lab.root / "var/lib/cellnet/ca/root.crt").read_text()
    assert "Verification: OK" in openssl(web, api, "-verify_ip", str(api.address), "-no-CApath", trust=str(bundle))
    assert shown.count("BEGIN CERTIFICATE") == 1
    assert "PRIVATE" not in shown


def test_without_the_bundle_the_chain_does_not_verify(two: tuple[Instance, Instance]) -> None:
    web, api = two
    assert "hello" not in request(web, api, "-x509_strict")


def test_python_verifies_address_and_names(two: tuple[Instance, Instance]) -> None:
    web, api = two
    for name in (None, *NAMES):
        assert web.get_tls(api, name=name) == f"hello {web.address}\n"
    with pytest.raises(ssl.SSLCertVerificationError):
        web.get_tls(api, name="web.apps.internal")
    with pytest.raises(ssl.SSLCertVerificationError):
        web.get_tls(api, context=ssl.create_default_context())


def test_a_server_that_is_called_by_another_ones_address_is_noticed(
    cell: CellUnderTest, two: tuple[Instance, Instance]
) -> None:
    web, api = two
    with pytest.raises(ssl.SSLCertVerificationError):
        web.get_tls(api, name=str(web.address))


# what gets through


def test_the_app_sees_the_callers_address_and_only_whole_handshakes(
    cell: CellUnderTest, two: tuple[Instance, Instance]
) -> None:
    web, api = two
    other = cell.run_app("acme/shop/other")
    cell.policy_file("other.yaml", f"policies:\n- {{from: acme/shop/other, to: {API}, tcp: 61443}}\n")
    assert web.get_tls(api) == f"hello {web.address}\n"
    assert other.get_tls(api) == f"hello {other.address}\n"
    assert api.callers(8080) == [str(web.address), str(other.address)]


def test_the_target_is_dialled_on_the_overlay_address_and_not_on_loopback(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API, port=9000)
    cell.policy_file("shop.yaml", POLICY)
    with api.listen(9000, address="127.0.0.1"), pytest.raises(OSError):
        web.get_tls(api)
    with api.listen(9000, address=str(api.address)) as listener:
        secure = web.dial_tls(api)
        behind, peer = listener.accept()
        assert peer[0] == str(web.address)
        assert behind.getsockname() == (str(api.address), 9000)
        assert is_alive(secure, api.keep(behind))


def test_the_target_is_the_first_port_or_what_was_asked_for(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB)
    first = cell.run_app(API, port=(9001, 9002), name="first")
    asked = cell.run_app(API, port=(9001, 9002), name="asked", options=["--tls-target=9002"])
    default = cell.run_app(API, name="default")
    cell.policy_file("shop.yaml", POLICY)
    for instance, port in ((first, 9001), (asked, 9002), (default, 8080)):
        with instance.listen(port) as listener:
            web.dial_tls(instance)
            assert instance.keep(listener.accept()[0])


def test_both_directions_end_by_themselves(cell: CellUnderTest) -> None:
    """Half-close: a client that has sent everything still gets the whole answer."""
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", POLICY)
    with api.listen(8080) as listener:
        secure = web.dial_tls(api)
        behind = api.keep(listener.accept()[0])
    behind.sendall(bytes(1_000_000))
    behind.close()
    received = 0
    while got := secure.recv(65536):
        received += len(got)
    assert received == 1_000_000


def test_plain_text_never_reaches_the_app(two: tuple[Instance, Instance]) -> None:
    web, api = two
    for said in (b"GET / HTTP/1.0\r\n\r\n", b"\x00" * 64, b"SSH-2.0-OpenSSH_9.2\r\n"):
        plain = web.dial(api, TLS_PORT)
        plain.sendall(said)
        plain.settimeout(20)  # longer than a handshake may take
        assert is_ended(plain)
    assert api.callers(8080) == []


def test_a_client_that_does_not_finish_the_handshake_never_reaches_the_app(two: tuple[Instance, Instance]) -> None:
    web, api = two
    silent, begun = web.dial(api, TLS_PORT), web.dial(api, TLS_PORT)
    begun.sendall(hello(ssl.create_default_context()))
    assert begun.recv(1), "the server does not answer"
    begun.close()
    gone = web.dial(api, TLS_PORT)
    gone.close()
    assert web.get_tls(api) == f"hello {web.address}\n"
    assert api.callers(8080) == [str(web.address)]
    silent.close()


def hello(context: ssl.SSLContext) -> bytes:
    """A client's first message."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=ROUTE)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_a_target_that_does_not_listen_ends_the_connection(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", POLICY)
    secure = web.dial_tls(api)
    secure.settimeout(20)
    assert is_ended(secure)


def test_61443_needs_a_policy_of_its_own(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    web, api = two
    cell.policy_file("shop.yaml", f"policies:\n- {{from: {WEB}, to: {API}, tcp: 8080}}\n")
    assert web.connect(api, TLS_PORT) is Refused
    assert web.get(api, 8080) == f"hello {web.address}\n"


# how it is spoken


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused_by_the_server(two: tuple[Instance, Instance], version: str) -> None:
    web, api = two
    assert "alert number 70" in openssl(web, api, version, "-cipher", "ALL:@SECLEVEL=0")


def test_every_weak_cipher_is_refused_by_the_server(two: tuple[Instance, Instance]) -> None:
    web, api = two
    for cipher in WEAK:
        assert "alert number 40" in openssl(web, api, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0"), cipher


def test_every_strong_cipher_serves(two: tuple[Instance, Instance]) -> None:
    web, api = two
    for cipher in STRONG:
        said = openssl(web, api, "-tls1_2", "-cipher", cipher)
        assert "Verification: OK" in said
        assert f"Ciphersuite: {cipher}" in said
    assert "Protocol version: TLSv1.3" in openssl(web, api)


def test_nothing_is_signed_with_sha1_though_the_caller_offers_nothing_else(two: tuple[Instance, Instance]) -> None:
    web, api = two
    options = ("-tls1_2", "-cipher", "ALL:@SECLEVEL=0", "-sigalgs")
    assert "alert number 40" in openssl(web, api, *options, "ECDSA+SHA1")
    assert "Verification: OK" in openssl(web, api, *options, "ECDSA+SHA1:ECDSA+SHA256")


def test_renegotiation_and_compression_are_not_offered(two: tuple[Instance, Instance]) -> None:
    web, api = two
    said = web.run("sh", "-c", f"openssl s_client -connect {api.address}:{TLS_PORT} -tls1_2 </dev/null", code=None)
    assert "Compression: NONE" in said
    assert "Secure Renegotiation IS supported" in said


def test_a_plain_target_negotiates_no_alpn(two: tuple[Instance, Instance]) -> None:
    web, api = two
    context = web.tls_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert web.dial_tls(api, context=context).selected_alpn_protocol() is None
    assert web.get_tls(api, context=context) == f"hello {web.address}\n"


def test_a_wave_of_new_connections_is_served_in_full(two: tuple[Instance, Instance]) -> None:
    web, api = two
    context = web.tls_context()
    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(lambda _: web.get_tls(api, context=context), range(200)))
    assert pages == [f"hello {web.address}\n"] * 200
    assert api.callers(8080) == [str(web.address)] * 200


def test_a_caller_that_resets_its_connection_ends_no_other(two: tuple[Instance, Instance]) -> None:
    web, api = two
    kept, leaving = web.dial_tls(api), web.dial_tls(api)
    leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    leaving.close()
    kept.sendall(b"echo")
    assert kept.recv(4) == b"echo"
