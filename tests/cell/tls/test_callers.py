"""Client certificates on 61443: none is needed, a sent one must verify, and --tls-http passes its name to the app."""

import json
import ssl
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ca.disk import Authorities, load_or_create
from ca.leaf import Issued, issue_leaf
from ca.names import Identity
from ca.pem import chain_bytes, key_bytes
from lab.apps import log_of
from lab.cell import Cell
from tests.testlib import certificates
from tests.testlib.agents.swift import SwiftCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import TLS_PORT, Instance
from tests.testlib.patience import eventually

pytestmark = pytest.mark.release

WEB, API = "acme/shop/web", "acme/shop/api"
POLICY = f"policies:\n- {{from: [{WEB}, acme/shop/other], to: {API}, tcp: 61443}}\n"
HTTP_APP = Path(certificates.__file__).parent / "in_containers" / "http_app.py"
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    """A certificate that was refused is a problem in the status for ten seconds, and no test begins before they are over."""
    return SwiftCell


@pytest.fixture
def two(cell: CellUnderTest) -> tuple[Instance, Instance]:
    """web and other may reach api on 61443."""
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True)
    cell.policy_file("shop.yaml", POLICY)
    return web, api


def answer(web: Instance, api: Instance, context: ssl.SSLContext, version: ssl.TLSVersion) -> str:
    """The page, or nothing where the connection is ended instead: under TLS 1.3 a client may believe its handshake first."""
    context.minimum_version = context.maximum_version = version
    try:
        return web.get_tls(api, context=context)
    except OSError:
        return ""
    except Exception as error:  # http.client's, for an end in place of an answer
        assert "without response" in str(error)  # noqa: PT017
        return ""


def authorities(cell: CellUnderTest) -> Authorities:
    """The cell's own."""
    folder = cell.lab.root / "var/lib/cellnet/ca"
    return load_or_create(folder, cell="cell-1", trust_domain=certificates.TRUST_DOMAIN, now=datetime.now(UTC))


def whom(web: Instance) -> Identity:
    """What web's own leaf says."""
    return certificates.identity(WEB, address=str(web.address))


def expired(cell: CellUnderTest, web: Instance) -> Issued:
    issuer = authorities(cell).cell
    begin = issuer.valid.not_before + timedelta(seconds=1)
    return issue_leaf(issuer, identity=whom(web), now=begin, lifetime=timedelta(seconds=2))


def foreign(_: CellUnderTest, web: Instance) -> Issued:
    return certificates.make_ca().leaf(whom(web))


def without_its_issuer(cell: CellUnderTest, web: Instance) -> Issued:
    whole = issue_leaf(authorities(cell).cell, identity=whom(web), now=datetime.now(UTC), lifetime=timedelta(hours=1))
    end = b"-----END CERTIFICATE-----\n"
    return Issued(whole.chain.split(end)[0] + end, whole.key)


def the_foreign_root_itself(_: CellUnderTest, __: Instance) -> Issued:
    root = certificates.make_ca().root
    return Issued(chain_bytes(root.chain), key_bytes(root.key))


Forged = Callable[[CellUnderTest, Instance], Issued]


@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize("forged", [expired, foreign, without_its_issuer, the_foreign_root_itself])
def test_a_certificate_that_does_not_verify_never_reaches_the_app(
    cell: CellUnderTest, two: tuple[Instance, Instance], forged: Forged, version: ssl.TLSVersion
) -> None:
    web, api = two
    context = web.tls_context()
    certificates.load_leaf(context, forged(cell, web))
    for _ in range(5):
        assert answer(web, api, context, version) == ""
    assert api.callers(8080) == []
    assert answer(web, api, web.tls_context(), version) == f"hello {web.address}\n"
    assert len(api.callers(8080)) == 1


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_none_is_needed_and_a_valid_one_of_another_instance_is_taken(
    cell: CellUnderTest, two: tuple[Instance, Instance], version: ssl.TLSVersion
) -> None:
    web, api = two
    other = cell.run_app("acme/shop/other")
    assert answer(web, api, web.tls_context(), version) == f"hello {web.address}\n"
    assert answer(web, api, web.tls_context(show=web), version) == f"hello {web.address}\n"
    assert answer(other, api, other.tls_context(show=other), version) == f"hello {other.address}\n"


def test_the_instances_own_files_serve_curl_inside(two: tuple[Instance, Instance]) -> None:
    web, api = two
    call = '--cacert "$CF_INSTANCE_CA" --cert "$CF_INSTANCE_CERT" --key "$CF_INSTANCE_KEY"'
    assert web.exec("sh", "-c", f"curl -sS {call} https://{api.address}:{TLS_PORT}/") == f"hello {web.address}\n"


def test_a_resumed_session_serves_too(two: tuple[Instance, Instance]) -> None:
    web, api = two
    context = web.tls_context(show=web)
    context.maximum_version = TLS12
    first = web.dial_tls(api, context=context)
    first.sendall(b"echo")
    assert first.recv(4) == b"echo"
    again = context.wrap_socket(web.dial(api, TLS_PORT), server_hostname=str(api.address), session=first.session)
    again.sendall(b"echo")
    assert again.recv(4) == b"echo"
    assert again.session_reused
    again.close()


# --tls-http


def http(cell: CellUnderTest, kind: str) -> tuple[Instance, Instance]:
    """web, and api as an HTTP app that answers with what it saw."""
    web = cell.run_app(WEB)
    command = (sys.executable, "-I", str(HTTP_APP), kind, "0.0.0.0", "8080")
    api = cell.run_app(API, *command, port=8080, options=["--tls-http", *(["h2"] if kind == "grpc" else [])])
    eventually(lambda: "ready" in log_of(cell.lab, api.name).read_text())
    cell.policy_file("shop.yaml", POLICY)
    return web, api


def fetched(web: Instance, api: Instance, *options: str) -> str:
    """What curl prints inside web when it calls api in HTTP/1.1, the versions of HTTP being the app's too."""
    call = f'curl -sS --http1.1 --cacert "$CF_INSTANCE_CA" {" ".join(options)}'
    return web.exec("sh", "-c", f"{call} https://{api.address}:{TLS_PORT}/a%2fb?c=d", code=None)


SHOWN = ('--cert "$CF_INSTANCE_CERT"', '--key "$CF_INSTANCE_KEY"')


def test_the_app_gets_the_identity_of_the_callers_certificate(cell: CellUnderTest) -> None:
    web, api = http(cell, "http1")
    seen = json.loads(fetched(web, api, *SHOWN))
    told = seen["headers"]["x-forwarded-client-cert"]
    assert "URI=spiffe://cell.internal/org/acme/space/shop/app/web" in told
    assert 'Subject="CN=web,OU=shop,O=acme"' in told
    assert "Hash=" in told
    assert "BEGIN%20CERTIFICATE" in told
    assert seen["peer"] == str(web.address)
    assert seen["headers"]["x-forwarded-for"] == str(web.address)


def test_no_caller_can_claim_another_identity(cell: CellUnderTest) -> None:
    web, api = http(cell, "http1")
    claim = "-H 'X-Forwarded-Client-Cert: URI=spiffe://cell.internal/org/acme/space/shop/app/admin' -H 'X-Kept: yes'"
    seen = json.loads(fetched(web, api, claim))
    assert "x-forwarded-client-cert" not in seen["headers"]
    assert (seen["headers"]["x-kept"], seen["path"]) == ("yes", "/a%2fb?c=d")
    proven = json.loads(fetched(web, api, claim, *SHOWN))
    assert "app/web" in proven["headers"]["x-forwarded-client-cert"]
    assert "admin" not in proven["headers"]["x-forwarded-client-cert"]


def test_a_certificate_that_does_not_verify_never_reaches_an_http_app(cell: CellUnderTest) -> None:
    web, api = http(cell, "http1")
    leaf = foreign(cell, web)
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(leaf.key + leaf.chain)
        for version in ("--tls-max 1.2", "--tlsv1.3"):
            assert "headers" not in fetched(web, api, version, f"--cert {file.name}")
    assert "headers" in fetched(web, api)


def test_an_http_target_offers_http2_first(cell: CellUnderTest) -> None:
    web, api = http(cell, "http1")
    for offered, chosen in ((["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), (["spdy/3"], None)):
        context = web.tls_context()
        context.set_alpn_protocols(offered)
        assert web.dial_tls(api, context=context).selected_alpn_protocol() == chosen


def test_http2_reaches_the_app_as_http2(cell: CellUnderTest) -> None:
    web, api = http(cell, "grpc")
    with tempfile.NamedTemporaryFile() as bundle:
        Path(bundle.name).write_bytes(Path(web.environment["CF_INSTANCE_CA"]).read_bytes())
        name = "api.shop.acme.cell.internal"
        said = web.run(sys.executable, "-I", str(HTTP_APP), "call", f"{api.address}:{TLS_PORT}", bundle.name, name, "k=v")
    seen = json.loads(said.splitlines()[-1])
    assert (seen["body"], seen["headers"]["k"]) == ("hello", "v")
    assert str(web.address) in seen["peer"]
