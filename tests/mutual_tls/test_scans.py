"""What an auditor's scanner says of both TLS ports of a container in strict mode, asked with the caller's own certificate.

`tests/cell/tls/test_scan.py` has another scanner's eye on 61443.
"""

import json
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dataplane.state import INBOUND_PORT
from tests.cells.conftest import Place
from tests.testlib.cell import CellUnderTest
from tests.testlib.containers import ServingContainer
from tests.testlib.instance import TLS_PORT

WEB, API = "acme/shop/web", "acme/shop/api"
SSLYZE = Path(__file__).parents[2] / ".setup" / "sslyze" / "bin" / "sslyze"
# All that the scanner can ask, but for what it sees of web pages: those are the app's.
WITH_CERTIFICATE = (
    "certinfo", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "compression", "early_data", "openssl_ccs", "fallback",
    "heartbleed", "robot", "reneg", "resum", "elliptic_curves", "ems",
)  # fmt: skip
# Its old OpenSSL, which alone speaks SSL 2, cannot load a certificate with an EC key.
WITHOUT_CERTIFICATE = ("sslv2",)
# It asks by HTTP/1, which a tunnel's end closes. So it cannot look for early data, which needs a ticket: there is none (below);
# and it would call a certificate required where it is not: that a handshake without one is refused stands below, too.
NOT_OF_TUNNELS = frozenset({"early_data"})

# What a port answers that is as strict as can be.
STRICT: Mapping[str, object] = {
    "client_auth_requirement": "REQUIRED",
    "certificate_info.trusted_by": ["Supplied CA file"],
    "certificate_info.keys": ["ECPublicKey 256"],
    "certificate_info.signatures": ["ecdsa-with-SHA256"],
    "certificate_info.received_chain_has_valid_order": True,
    "certificate_info.received_chain_contains_anchor_certificate": False,
    "certificate_info.verified_chain_has_sha1_signature": False,
    "certificate_info.verified_chain_has_legacy_symantec_anchor": False,
    "certificate_info.leaf_certificate_has_must_staple_extension": True,
    "certificate_info.ocsp_response_is_trusted": True,
    "ssl_2_0_cipher_suites.accepted": [],
    "ssl_3_0_cipher_suites.accepted": [],
    "tls_1_0_cipher_suites.accepted": [],
    "tls_1_1_cipher_suites.accepted": [],
    "tls_1_2_cipher_suites.accepted": [],
    "tls_1_3_cipher_suites.accepted": [
        "TLS_AES_128_GCM_SHA256 by ECDH", "TLS_AES_256_GCM_SHA384 by ECDH", "TLS_CHACHA20_POLY1305_SHA256 by ECDH",
    ],
    "tls_compression.supports_compression": False,
    "tls_1_3_early_data.supports_early_data": False,
    "openssl_ccs_injection.is_vulnerable_to_ccs_injection": False,
    "tls_fallback_scsv.supports_fallback_scsv": True,
    "heartbleed.is_vulnerable_to_heartbleed": False,
    "robot.robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED",
    "session_renegotiation.supports_secure_renegotiation": True,
    "session_renegotiation.is_vulnerable_to_client_renegotiation_dos": False,
    "session_resumption.session_id_resumption_result": "SERVER_IS_TLS_1_3_ONLY",
    "session_resumption.tls_ticket_resumption_result": "SERVER_IS_TLS_1_3_ONLY",
    "elliptic_curves.supports_ecdh_key_exchange": True,
    "elliptic_curves.supported": ["X25519", "secp256r1"],
    "tls_extended_master_secret.supports_ems_extension": True,
}  # fmt: skip


class Meant(NamedTuple):
    """An answer that is less than strict, and why it is meant."""

    name: str
    answer: object
    why: str


SHORT_LIVED = (
    Meant("certificate_info.ocsp_response_is_trusted", None, "a leaf's short life takes the place of revocation"),
    Meant("certificate_info.leaf_certificate_has_must_staple_extension", False, "the same"),
)
FROM_ANYWHERE = (
    Meant("client_auth_requirement", "OPTIONAL", "callers may have no certificate of ours; the policy is what admits them"),
    Meant(
        "tls_1_2_cipher_suites.accepted",
        [f"TLS_ECDHE_ECDSA_WITH_{each} by ECDH" for each in
         ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")],
        "callers may not speak 1.3 yet; forward secrecy and authenticated encryption only",
    ),
    Meant("session_resumption.session_id_resumption_result", "NOT_SUPPORTED", "asked of 1.2 alone"),
    Meant("session_resumption.tls_ticket_resumption_result", "FULLY_SUPPORTED", "for ten minutes (docs/security.md)"),
)  # fmt: skip
MEANT: Mapping[int, Sequence[Meant]] = {TLS_PORT: (*SHORT_LIVED, *FROM_ANYWHERE), INBOUND_PORT: SHORT_LIVED}


@pytest.fixture
def shop(cell: CellUnderTest, place: Place) -> tuple[ServingContainer, ServingContainer]:
    """A caller and what it may call."""
    web, api = place(cell, WEB), place(cell, API, 8080)
    cell.allow(WEB, API, "tcp/8080", f"tcp/{TLS_PORT}")
    return web, api


@pytest.mark.parametrize("port", [TLS_PORT, INBOUND_PORT])
def test_a_scan_finds_nothing_but_what_is_meant(
    shop: tuple[ServingContainer, ServingContainer], port: int, tmp_path: Path
) -> None:
    web, api = shop
    own = ("--cert", web.environment["CF_INSTANCE_CERT"], "--key", web.environment["CF_INSTANCE_KEY"])
    asked = [each for each in WITH_CERTIFICATE if port == TLS_PORT or each not in NOT_OF_TUNNELS]
    bare = scanned(web, f"{api.address}:{port}", WITHOUT_CERTIFICATE, out=tmp_path / "bare.json")
    known = scanned(web, f"{api.address}:{port}", asked, *own, out=tmp_path / "known.json")
    found = {
        "client_auth_requirement": bare["connectivity_result"]["client_auth_requirement"],
        **answers(bare),
        **answers(known),
    }
    expected = {**STRICT, **{each.name: each.answer for each in MEANT[port]}}
    if port == INBOUND_PORT:
        del expected["tls_1_3_early_data.supports_early_data"]
    assert found == expected


def test_a_tunnel_is_neither_opened_without_a_certificate_nor_resumed(
    shop: tuple[ServingContainer, ServingContainer],
) -> None:
    web, api = shop
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        web.dial_tls(api, context=web.tls_context(), port=INBOUND_PORT).read()
    assert offers_ticket(web, api, TLS_PORT)  # so that it can fail
    assert not offers_ticket(web, api, INBOUND_PORT)


def offers_ticket(web: ServingContainer, api: ServingContainer, port: int) -> bool:
    """Whether the port has sent a ticket by its first words, with which a next connection could leave the certificates out."""
    context = web.tls_context(show=web)
    context.set_alpn_protocols(["h2"] if port == INBOUND_PORT else ["http/1.1"])
    connection = web.dial_tls(api, context=context, port=port)
    settings = bytes(3) + b"\x04" + bytes(5)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings if port == INBOUND_PORT else b"GET / HTTP/1.1\r\n\r\n")
    assert connection.recv(1)
    assert connection.version() == "TLSv1.3"
    assert connection.session is not None
    return connection.session.has_ticket


def scanned(web: ServingContainer, target: str, questions: Sequence[str], *options: str, out: Path) -> dict[str, Any]:
    """sslyze's report on an address and port, called from inside web, trusting our root."""
    argv = (
        "nsenter", f"--net={web.pin}", str(SSLYZE), "--quiet", "--mozilla_config", "disable", "--json_out", str(out), *options,
        "--certinfo_ca_file", web.environment["CF_INSTANCE_CA"], *(f"--{each}" for each in questions), target,
    )  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False)
    print(done.stdout, done.stderr)
    (report,) = json.loads(out.read_text())["server_scan_results"]
    assert (report["connectivity_status"], report["scan_status"]) == ("COMPLETED", "COMPLETED")
    return dict(report)


def answers(report: Mapping[str, Any]) -> dict[str, object]:
    """Each field of each answer, by names as in STRICT; a question that came to nothing has what the scanner says of it."""
    found: dict[str, object] = {}
    for question, reply in report["scan_result"].items():
        if reply["status"] == "NOT_SCHEDULED":
            continue
        if reply["status"] != "COMPLETED":
            found[f"{question}.{reply['status']}"] = reply["error_trace"]
            continue
        kind = "cipher_suites" if question.endswith("_cipher_suites") else question
        fields = SHORTENED.get(kind, dict)(reply["result"])
        found |= {f"{question}.{name}": value for name, value in fields.items() if not name.endswith("_count")}
    return found


def certificates(result: Mapping[str, Any]) -> dict[str, object]:
    """With and without the server's name in the handshake, which must be the same."""
    (one,) = result["certificate_deployments"]
    other = result["certificate_deployment_with_sni_disabled"]
    assert one["received_certificate_chain"] == other["received_certificate_chain"]
    chain = one["received_certificate_chain"]
    kept = {name: value for name, value in one.items() if name in {key.partition(".")[2] for key in STRICT}}
    return {
        **kept,
        "trusted_by": [
            each["trust_store"]["name"] for each in one["path_validation_results"] if each["was_validation_successful"]
        ],
        "keys": sorted({f"{each['public_key']['algorithm']} {each['public_key']['key_size']}" for each in chain}),
        "signatures": sorted({each["signature_algorithm_oid"]["name"] for each in chain}),
    }


def suites(result: Mapping[str, Any]) -> dict[str, object]:
    """The accepted ones. One that was refused by anything but TLS, as by a limit on connections, counts as not asked for."""
    for each in result["rejected_cipher_suites"]:  # an SSL 2 hello is nothing that is answered
        assert each["error_message"].startswith("TLS ") or result["tls_version_used"] == "SSL_2_0", each
    return {
        "accepted": sorted(
            f"{each['cipher_suite']['name']} by {each['ephemeral_key'] and each['ephemeral_key']['type_name']}"
            for each in result["accepted_cipher_suites"]
        )
    }


def curves(result: Mapping[str, Any]) -> dict[str, object]:
    """Those that it takes for the exchange of keys."""
    return {
        "supports_ecdh_key_exchange": result["supports_ecdh_key_exchange"],
        "supported": sorted(each["name"] for each in result["supported_curves"]),
    }


SHORTENED = {"certificate_info": certificates, "cipher_suites": suites, "elliptic_curves": curves}
