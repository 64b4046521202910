"""In strict mode a call needs three answers that agree: the kernel's for the tag, the certificate's, and its address's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ca.leaf import Issued
from dataplane.state import INBOUND_PORT
from tests.testlib.attacks.tunnel_caller import Answer, TunnelCaller
from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import Instance
from tests.testlib.node import Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, policies

MALLORY = "evil/shop/mallory"
REFUSED, UNHEARD = Answer("403"), Answer("")
POLICY = policies(f"from: {WEB}, to: {API}, tcp: 8080", f"from: {OTHER}, to: {API}, tcp: 9000")


@pytest.fixture
def cell(make_cell: Callable[..., CellUnderTest]) -> CellUnderTest:
    return make_cell("tls.mtls=strict")


def leaf_of(container: Instance) -> Issued:
    """As root inside has it."""
    chain, key = (Path(container.environment[f"CF_INSTANCE_{word}"]).read_bytes() for word in ("CERT", "KEY"))
    return Issued(chain, key)


def test_tag_certificate_and_address_must_agree_or_the_call_is_refused_and_logged(cell: CellUnderTest) -> None:
    web, other, mallory = cell.run_app(WEB), cell.run_app(OTHER), cell.run_app(MALLORY)
    api = cell.run_app(API, port=[8080, 9000], server=True)
    cell.policy_file("shop.yaml", POLICY)
    cell.cellnet("sync")
    bundle = Path(web.environment["CF_INSTANCE_CA"]).read_bytes()

    def asks(container: Instance, *, leaf: Instance | None, port: int) -> Answer:
        shown = leaf_of(leaf) if leaf else None
        return TunnelCaller(container.pin, bundle, leaf=shown, address=api.address).connects(f"{api.address}:{port}")

    assert {port: asks(web, leaf=web, port=port).status for port in (8080, 9000)} == {8080: "200", 9000: "403"}
    assert {port: asks(other, leaf=other, port=port).status for port in (8080, 9000)} == {8080: "403", 9000: "200"}
    for port in (8080, 9000):
        assert asks(other, leaf=web, port=port) == REFUSED, "the right certificate, a wrong tag"
        assert asks(web, leaf=other, port=port) == REFUSED, "the right tag, a wrong certificate"
        assert asks(web, leaf=None, port=port) == UNHEARD, "the right tag, no certificate"
        assert asks(mallory, leaf=web, port=port) == UNHEARD, "the right certificate, a tag without any right"
    assert mallory.connect(api, INBOUND_PORT) is Refused
    assert (api.callers(8080), api.callers(9000)) == ([str(web.address)], [str(other.address)])
    logged = {"rights": "2", "address": "4", "certificate": "2"}
    eventually(lambda: cell.status().at("refusals").mapping("reasons") == logged)
