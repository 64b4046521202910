"""What others make of our certificates: openssl, Python's ssl in real handshakes, and cryptography's verifier."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from ca.authority import Authority, issue_cell, make_root
from ca.errors import CaRefused
from ca.leaf import issue_leaf
from ca.names import Identity
from ca.pem import certificates, chain_bytes
from ca.verify import verify
from tests.testlib.certificates import TODAY, Ca, client_context, handshake, identity, make_ca, server_context

DAY = timedelta(days=1)
WEB = identity(names=("web.shop.acme.cell.internal", "web.apps.internal"))


@pytest.fixture(scope="module")
def ours() -> Ca:
    return make_ca()


@pytest.fixture(scope="module")
def foreign() -> Ca:
    return make_ca()


def openssl_verify(folder: Path, chain: bytes, bundle: bytes, *options: str) -> str:
    (folder / "chain.pem").write_bytes(chain)
    (folder / "bundle.pem").write_bytes(bundle)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "bundle.pem", "-untrusted", "chain.pem", *options, "chain.pem"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout + done.stderr


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_accepts_a_leaf_to_the_letter_for_both_purposes(tmp_path: Path, ours: Ca, purpose: str) -> None:
    said = openssl_verify(tmp_path, ours.leaf(WEB).chain, ours.root.bundle(), "-purpose", purpose)
    assert said == "chain.pem: OK\n"


@pytest.mark.parametrize("option", [("-verify_ip", "10.255.1.2"), ("-verify_hostname", "web.apps.internal")])
def test_openssl_finds_the_address_and_the_names(tmp_path: Path, ours: Ca, option: tuple[str, str]) -> None:
    assert "OK" in openssl_verify(tmp_path, ours.leaf(WEB).chain, ours.root.bundle(), *option)
    wrong = (option[0], {"-verify_ip": "10.255.1.3", "-verify_hostname": "api.apps.internal"}[option[0]])
    assert "mismatch" in openssl_verify(tmp_path, ours.leaf(WEB).chain, ours.root.bundle(), *wrong)


def test_openssl_refuses_a_foreign_root(tmp_path: Path, ours: Ca, foreign: Ca) -> None:
    assert "OK" not in openssl_verify(tmp_path, ours.leaf(WEB).chain, foreign.root.bundle())


def test_longest_names_still_make_a_certificate_that_openssl_accepts(tmp_path: Path) -> None:
    label = "a" * 63
    whom = Identity(
        "cell.internal", label, label, label, IPv4Address("10.255.1.2"), (f"{label}.{label}.{label}.cell.internal",)
    )
    root = make_root(trust_domain="cell.internal", now=TODAY, lifetime=DAY)
    cell = issue_cell(root, cell="host." * 30, trust_domain="cell.internal", now=TODAY, lifetime=DAY)
    leaf = issue_leaf(cell, identity=whom, now=TODAY, lifetime=DAY)
    assert openssl_verify(tmp_path, leaf.chain, root.bundle()) == "chain.pem: OK\n"
    assert verify(leaf.chain, root.bundle(), now=TODAY) == whom


def test_a_leaf_cannot_sign_and_a_cell_cannot_make_another_cell(tmp_path: Path, ours: Ca) -> None:
    second = issue_cell(ours.cell, cell="two", trust_domain="cell.internal", now=TODAY, lifetime=DAY)
    leaf = issue_leaf(second, identity=WEB, now=TODAY, lifetime=DAY)
    assert "path length constraint exceeded" in openssl_verify(tmp_path, leaf.chain, ours.root.bundle())
    with pytest.raises(CaRefused):
        verify(leaf.chain, ours.root.bundle(), now=TODAY)


@pytest.mark.parametrize("dialled", ["10.255.1.2", "web.apps.internal", "web.shop.acme.cell.internal"])
def test_python_connects_by_address_and_by_name(ours: Ca, dialled: str) -> None:
    server = server_context(ours.leaf(WEB))
    assert handshake(server, client_context(ours.root.bundle()), dialled=dialled) == b"hello"


@pytest.mark.parametrize("dialled", ["10.255.1.3", "api.apps.internal", "web"])
def test_python_refuses_another_address_or_name(ours: Ca, dialled: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        handshake(server_context(ours.leaf(WEB)), client_context(ours.root.bundle()), dialled=dialled)


def test_python_refuses_a_foreign_server(ours: Ca, foreign: Ca) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(server_context(foreign.leaf(WEB)), client_context(ours.root.bundle()), dialled="10.255.1.2")


def test_a_leaf_serves_as_client_certificate_too(ours: Ca, foreign: Ca) -> None:
    server = server_context(ours.leaf(WEB), client_bundle=ours.root.bundle())
    api = identity("acme/shop/api", address="10.255.1.3")
    client = client_context(ours.root.bundle(), leaf=ours.leaf(api))
    assert handshake(server, client, dialled="10.255.1.2") == b"hello"
    with pytest.raises(ssl.SSLError):
        handshake(server, client_context(ours.root.bundle(), leaf=foreign.leaf(api)), dialled="10.255.1.2")
    with pytest.raises(ssl.SSLError):
        handshake(server, client_context(ours.root.bundle()), dialled="10.255.1.2")


def test_python_refuses_an_expired_leaf(ours: Ca) -> None:
    old = make_ca(now=TODAY - 30 * DAY)
    leaf = old.leaf(WEB, now=TODAY - 2 * DAY, lifetime=DAY)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(server_context(leaf), client_context(old.root.bundle()), dialled="10.255.1.2")


def test_pythons_cryptography_accepts_the_chain_which_a_uri_name_constraint_would_prevent(ours: Ca) -> None:
    leaf, *rest = certificates(ours.leaf(WEB).chain, where="the leaf")
    verifier = (
        PolicyBuilder()
        .store(Store([ours.root.certificate]))
        .time(TODAY)
        .build_server_verifier(x509.DNSName("web.apps.internal"))
    )
    assert len(verifier.verify(leaf, rest)) == 3


def test_a_leaf_has_exactly_the_fields_of_the_design(ours: Ca) -> None:
    leaf, cell = certificates(ours.leaf(WEB).chain, where="the leaf")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://cell.internal/org/acme/space/shop/app/web"]
    assert names.get_values_for_type(x509.DNSName) == ["web.shop.acme.cell.internal", "web.apps.internal"]
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("10.255.1.2")]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    key_usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert key_usage.digital_signature
    assert not key_usage.key_cert_sign
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert cell == ours.cell.certificate
    assert cell.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_serials_and_keys_are_never_used_twice(ours: Ca) -> None:
    first, second = ours.leaf(WEB), ours.leaf(WEB)
    assert first.key != second.key
    assert len({each.serial_number for leaf in (first, second) for each in certificates(leaf.chain, where="")}) == 3


def test_no_value_prints_a_key(ours: Ca) -> None:
    leaf = ours.leaf(WEB)
    assert "PRIVATE" not in repr(leaf) + repr(ours.cell) + repr(ours.root)
    assert ours.cell.fingerprint()[:16] in repr(ours.cell)


def test_verify_returns_the_identity_of_a_leaf(ours: Ca) -> None:
    assert verify(ours.leaf(WEB).chain, ours.root.bundle(), now=TODAY) == WEB


def test_verify_takes_any_root_of_the_bundle(ours: Ca, foreign: Ca) -> None:
    both = foreign.root.bundle() + ours.root.bundle()
    assert verify(ours.leaf(WEB).chain, both, now=TODAY) == WEB
    assert verify(foreign.leaf(WEB).chain, both, now=TODAY) == WEB


@pytest.mark.parametrize(
    ("days", "words"), [(-1, "is not valid before"), (2, "CN=web.* expired at"), (200, "expired at"), (5000, "expired at")]
)
def test_verify_names_the_certificate_that_is_out_of_date(ours: Ca, days: int, words: str) -> None:
    with pytest.raises(CaRefused, match=words):
        verify(ours.leaf(WEB).chain, ours.root.bundle(), now=TODAY + days * DAY)


def test_verify_refuses_a_foreign_leaf_a_missing_intermediate_and_rubbish(ours: Ca, foreign: Ca) -> None:
    leaf = certificates(ours.leaf(WEB).chain, where="the leaf")[0]
    cases = [
        (foreign.leaf(WEB).chain, ours.root.bundle(), "no root of the trust bundle vouches"),
        (chain_bytes((leaf,)), ours.root.bundle(), "no root of the trust bundle vouches"),
        (b"rubbish", ours.root.bundle(), "the chain holds no readable certificate"),
        (chain_bytes((leaf,)), b"", "the trust bundle holds no readable certificate"),
        (chain_bytes(ours.cell.below_root()), ours.root.bundle(), "vouches|SPIFFE"),
    ]
    for chain, bundle, words in cases:
        with pytest.raises(CaRefused, match=words):
            verify(chain, bundle, now=TODAY)


def test_verify_refuses_another_trust_domain_than_the_roots(ours: Ca) -> None:
    stranger = Identity("evil.example", "acme", "shop", "web", IPv4Address("10.255.1.2"))
    with pytest.raises(CaRefused, match=r"not of cell\.internal"):
        verify(issue_leaf(ours.cell, identity=stranger, now=TODAY, lifetime=DAY).chain, ours.root.bundle(), now=TODAY)


def test_an_expired_issuer_and_a_clock_before_it_are_refused(ours: Ca) -> None:
    for now in (TODAY + 91 * DAY, datetime(1970, 1, 1, tzinfo=UTC)):
        with pytest.raises(CaRefused, match="the issuer is valid from"):
            ours.leaf(WEB, now=now)


@pytest.mark.parametrize("bad", ["Cell.internal", "cell..internal", "", "a/b", "cell.internal.", "x" * 64])
def test_a_trust_domain_is_a_dns_name(bad: str) -> None:
    with pytest.raises(CaRefused, match="not a trust domain"):
        make_root(trust_domain=bad, now=TODAY, lifetime=DAY)


@pytest.mark.parametrize("bad", ["*.apps.internal", "Web.apps.internal", "a_b.apps.internal", "a." * 126 + "com"])
def test_a_name_that_is_not_dns_never_gets_into_a_leaf(bad: str) -> None:
    with pytest.raises(CaRefused, match="not a DNS name"):
        identity(names=(bad,))


def test_authorities_with_the_same_certificate_are_equal(ours: Ca) -> None:
    assert Authority(ours.cell.chain, ours.root.key) == ours.cell
