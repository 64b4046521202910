"""Published ports of a cell in strict mode: the outside, which has no certificate, calls in plain text or as the app's TLS."""

import ssl
from collections.abc import Sequence

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import echoed, is_ended
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused, connect_at_once

WEB, API = "acme/shop/web", "acme/shop/api"
PLAIN, TLS, DATAGRAMS = 7000, 7443, 7053


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("tls.mtls=strict",)


@pytest.fixture
def web(cell: CellUnderTest) -> Instance:
    """It may be called from all of the outside, and by api."""
    ports = (f"{PLAIN}:8080", f"{TLS}:tls", f"{DATAGRAMS}:8080/udp")
    made = cell.run_app(WEB, server=True, port=8080, options=[f"--publish={each}" for each in ports])
    cell.allow("0.0.0.0/0", WEB, "tcp/8080", "tcp/61443", "udp/8080", "--name", "in")
    cell.allow(API, WEB, "tcp/8080", "udp/8080")
    return made


def over_tls(cell: CellUnderTest, web: Instance) -> ssl.SSLSocket:
    made = web.tls_context().wrap_socket(cell.outside.dial(cell.host, TLS), server_hostname=str(web.address))
    cell.outside.keep(made)
    return made


def test_the_outside_comes_in_plain_and_to_where_tls_is_terminated_with_its_own_address(
    cell: CellUnderTest, web: Instance
) -> None:
    outside = str(cell.outside.address)
    assert cell.outside.get(cell.host, PLAIN) == f"hello {outside}\n"
    assert cell.outside.udp(cell.host, DATAGRAMS) is Connected
    with over_tls(cell, web) as connection:
        assert echoed(connection)
    assert web.callers(8080)[-1] == outside, "the app behind Envoy sees it, too"


def test_containers_go_through_tunnels_and_not_by_a_published_port(cell: CellUnderTest, web: Instance) -> None:
    api = cell.run_app(API)
    assert api.get(web, 8080) == f"hello {api.address}\n"
    assert connect_at_once(api, cell.host, PLAIN) is Refused
    assert api.udp(cell.host, DATAGRAMS) is Connected, "UDP is in no tunnel"


def test_a_policy_that_goes_ends_both(cell: CellUnderTest, web: Instance) -> None:
    plain, tls = cell.outside.dial(cell.host, PLAIN), over_tls(cell, web)
    assert echoed(plain)
    assert echoed(tls)
    cell.cellnet("policy", "delete", "in")
    assert is_ended(plain)
    assert is_ended(tls)
    for port in (PLAIN, TLS):
        assert cell.outside.connect(cell.host, port) is Refused
