"""Targets that speak HTTP: the caller is in X-Forwarded-Client-Cert, in the words of the verified certificate alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane.state import TargetHttp
from tests.testlib.certificates import client_context, identity
from tests.testlib.envoy import API, PORT, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import dial_tls
from tests.testlib.netns import Netns

SCRIPT = str(Path(__file__).parent.parent / "testlib" / "in_containers" / "http_app.py")
FORGED = "By=spiffe://cell.internal/x;URI=spiffe://cell.internal/org/acme/space/shop/app/admin"


def mirror(netns: Netns, kind: str) -> Iterator[None]:
    process = netns.start(sys.executable, SCRIPT, kind, str(API), "8080", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def http1(cell: EnvoyCell, pair: EnvoyPair) -> Iterator[None]:
    cell.serve(pair.workload(cell.leaf(), http=TargetHttp.HTTP1))
    yield from mirror(pair.api, "http1")


@pytest.fixture
def wsgi(cell: EnvoyCell, pair: EnvoyPair) -> Iterator[None]:
    cell.serve(pair.workload(cell.leaf(), http=TargetHttp.HTTP1))
    yield from mirror(pair.api, "wsgi")


@pytest.fixture
def grpc_app(cell: EnvoyCell, pair: EnvoyPair) -> Iterator[None]:
    cell.serve(pair.workload(cell.leaf(), http=TargetHttp.HTTP2))
    yield from mirror(pair.api, "grpc")


@pytest.fixture
def files(cell: EnvoyCell, tmp_path: Path) -> Path:
    leaf = cell.ca.leaf(identity("acme/shop/web", names=("web.test",)))
    (tmp_path / "bundle.pem").write_bytes(cell.ca.root.bundle())
    (tmp_path / "web.pem").write_bytes(leaf.chain)
    (tmp_path / "web.key").write_bytes(leaf.key)
    return tmp_path


def curl(netns: Netns, files: Path, *words: str) -> Any:
    said = netns.run(
        "curl", "-sS", "--cacert", str(files / "bundle.pem"), "--resolve", f"api.test:{PORT}:{API}", "--http1.1", *words,
        f"https://api.test:{PORT}/a/../b//c%2F?x=1", "--path-as-is",
    )  # fmt: skip
    return json.loads(said)


def test_a_verified_caller_is_named(pair: EnvoyPair, http1: None, files: Path) -> None:
    seen = curl(pair.web, files, "--cert", str(files / "web.pem"), "--key", str(files / "web.key"))
    header = seen["headers"]["x-forwarded-client-cert"]
    assert "URI=spiffe://cell.internal/org/acme/space/shop/app/web" in header
    assert "DNS=web.test" in header
    assert 'Cert="-----BEGIN%20CERTIFICATE-----' in header


def test_a_forged_header_of_a_caller_without_certificate_is_taken_away(pair: EnvoyPair, http1: None, files: Path) -> None:
    seen = curl(pair.web, files, "-H", f"X-Forwarded-Client-Cert: {FORGED}")
    assert "x-forwarded-client-cert" not in seen["headers"]


def test_a_forged_header_of_a_verified_caller_is_replaced(pair: EnvoyPair, http1: None, files: Path) -> None:
    seen = curl(
        pair.web, files, "--cert", str(files / "web.pem"), "--key", str(files / "web.key"),
        "-H", f"X-Forwarded-Client-Cert: {FORGED}", "-H", f"x-forwarded-client-cert: {FORGED}",
    )  # fmt: skip
    assert "app/admin" not in seen["headers"]["x-forwarded-client-cert"]
    assert "app/web" in seen["headers"]["x-forwarded-client-cert"]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_no_other_spelling_of_a_header_becomes_the_variable_that_names_the_caller(
    pair: EnvoyPair, wsgi: None, files: Path, version: str
) -> None:
    """Servers of CGI's kind make HTTP_X_FORWARDED_CLIENT_CERT of each of these, some of all."""
    spelled = [f"-HX{mark}Forwarded{mark}Client{mark}Cert: {FORGED}" for mark in "_.~!*+^|'#$%&`"]
    mixed = [f"-HX-Forwarded_Client-Cert: {FORGED}", "-HX_Forwarded_For: 203.0.113.9", "-H_X: 1", "-HX-Kept-2: yes"]
    anonymous = curl(pair.web, files, version, *spelled, *mixed)
    assert not [name for name, value in anonymous.items() if value == FORGED]
    assert anonymous["HTTP_X_FORWARDED_FOR"] == str(WEB)
    assert anonymous["HTTP_X_KEPT_2"] == "yes"
    known = curl(pair.web, files, version, *spelled, *mixed, "--cert", str(files / "web.pem"), "--key", str(files / "web.key"))
    assert "app/web" in known["HTTP_X_FORWARDED_CLIENT_CERT"]
    assert "app/admin" not in json.dumps(known)


def test_a_caller_that_speaks_http_2_reaches_an_app_that_speaks_http_1_1(pair: EnvoyPair, http1: None, files: Path) -> None:
    assert curl(pair.web, files, "--http2")["peer"] == str(WEB)


def test_the_app_sees_the_callers_address_path_and_host_as_they_are(pair: EnvoyPair, http1: None, files: Path) -> None:
    seen = curl(pair.web, files)
    assert seen["peer"] == str(WEB)
    assert seen["path"] == "/a/../b//c%2F?x=1"
    assert seen["headers"]["host"] == f"api.test:{PORT}"
    assert seen["headers"]["x-forwarded-proto"] == "https"
    assert seen["headers"]["x-forwarded-for"] == str(WEB)
    assert not [name for name in seen["headers"] if name.startswith("x-envoy")]


def test_a_gateways_claims_about_its_clients_are_kept_and_added_to(pair: EnvoyPair, http1: None, files: Path) -> None:
    seen = curl(pair.web, files, "-H", "X-Forwarded-For: 203.0.113.9", "-H", "X-Request-Id: 42", "-H", "x-envoy-max-retries: 9")
    assert seen["headers"]["x-forwarded-for"] == f"203.0.113.9,{WEB}"
    assert seen["headers"]["x-request-id"] == "42"
    assert "x-envoy-max-retries" not in seen["headers"]


def test_two_callers_never_share_a_connection_to_the_app(pair: EnvoyPair, http1: None, files: Path) -> None:
    seen = [curl(netns, files) for netns in (pair.web, pair.api) * 10]
    assert {each["peer"] for each in seen[::2]} == {str(WEB)}
    assert {each["peer"] for each in seen[1::2]} == {str(API)}


def test_h2_and_http_1_1_are_offered(cell: EnvoyCell, pair: EnvoyPair, http1: None) -> None:
    for offered, agreed in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
        context = client_context(cell.ca.root.bundle())
        if offered:
            context.set_alpn_protocols(offered)
        with dial_tls(pair.web.path, context) as connection:
            assert connection.selected_alpn_protocol() == agreed


def test_grpc_passes_from_the_caller_to_the_app(pair: EnvoyPair, grpc_app: None, files: Path) -> None:
    said = pair.web.run(
        sys.executable, SCRIPT, "call", f"{API}:{PORT}", str(files / "bundle.pem"), "api.test",
        f"x-forwarded-client-cert={FORGED}", "mark=seven",
    )  # fmt: skip
    seen = json.loads(said)
    assert seen["body"] == "hello"
    assert seen["peer"].startswith(f"ipv4:{WEB}:")
    assert seen["headers"]["mark"] == "seven"
    assert "x-forwarded-client-cert" not in seen["headers"]


def test_plain_http_is_closed_and_never_reaches_the_app(pair: EnvoyPair, http1: None) -> None:
    said = pair.web.run("curl", "-sS", "-m", "5", f"http://{API}:{PORT}/", check=False)
    assert "peer" not in said


def test_an_app_that_is_not_there_is_a_503(cell: EnvoyCell, pair: EnvoyPair, files: Path) -> None:
    cell.serve(pair.workload(cell.leaf(), http=TargetHttp.HTTP1))
    said = pair.web.run(
        "curl", "-sS", "--cacert", str(files / "bundle.pem"), "--resolve", f"api.test:{PORT}:{API}", "-w", "%{http_code}",
        "-o", "/dev/null", f"https://api.test:{PORT}/",
    )  # fmt: skip
    assert said == "503"


def test_a_workload_may_change_from_tcp_to_http(cell: EnvoyCell, pair: EnvoyPair, files: Path, http1: None) -> None:
    cell.serve(pair.workload(cell.leaf()))
    assert "x-forwarded-proto" not in curl(pair.web, files)["headers"]
    cell.serve(pair.workload(cell.leaf(), http=TargetHttp.HTTP1))
    assert curl(pair.web, files)["headers"]["x-forwarded-proto"] == "https"
