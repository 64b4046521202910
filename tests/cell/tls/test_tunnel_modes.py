"""A mode of mutual TLS on one cell whose containers run already: their ports, and programs that have them."""

from collections.abc import Callable

from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.node import pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, web_to_api
from tests.testlib.status import problems, reports
from tests.testlib.tunnels.mutual_tls import INBOUND, OUTBOUND, can_take, is_in_force, mutual_tls, set_mode, tunnel_ends


def test_a_program_that_has_a_port_of_tunnels_is_named_and_others_go_on(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell("tls.mtls=none")
    web, api, other = cell.run_app(WEB), cell.run_app(API, port=8080, server=True), cell.run_app(OTHER)
    caller, called = web.listen(OUTBOUND, address="127.0.0.1"), api.listen(INBOUND)
    envoy = cell.envoy_pid
    set_mode(cell, "accept")
    eventually(lambda: reports(cell, "cell", "mutual TLS (accept) is not in force yet: no tunnels end yet in api, web;"))
    assert tunnel_ends(other) == {OUTBOUND, INBOUND}
    assert not can_take(other, INBOUND)
    assert not can_take(other, OUTBOUND)
    found = problems(cell)
    assert "web: port 15001 is in use in the namespace already" in found["envoy"]
    assert "api: port 15008 is in use in the namespace already" in found["envoy"]
    assert "none" in cell.cellnet("cell", "list").out
    caller.close()
    eventually(lambda: tunnel_ends(web) == {OUTBOUND, INBOUND})
    assert not is_in_force(cell, "accept")
    called.close()
    cell.wait_well()
    assert is_in_force(cell, "accept")
    assert tunnel_ends(api) == {OUTBOUND, INBOUND}
    assert "accept" in cell.cellnet("cell", "list").out
    assert mutual_tls(cell).texts("plain_cells") == ()
    late = cell.run_app("acme/shop/late")
    assert tunnel_ends(late) == {OUTBOUND, INBOUND}
    assert cell.envoy_pid == envoy


def test_connections_in_plain_are_counted_in_accept_and_cut_with_a_receipt_in_strict(
    make_cell: Callable[..., CellUnderTest],
) -> None:
    cell = make_cell("tls.mtls=none")
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("tcp: 8080"))
    ends = pair(web, api, 8080)
    for each in pair(web, api, 8080):
        each.close()
    set_mode(cell, "accept")
    cell.wait_well()
    eventually(lambda: mutual_tls(cell).text("plain_flows") == "1")
    assert is_alive(*ends)
    assert '"flows_cut"' not in cell.log
    set_mode(cell, "strict")
    cell.wait_well()
    assert all(map(is_reset, ends))
    port = ends[0].getsockname()[1]
    eventually(lambda: f'["tcp {web.address}:{port} -> {api.address}:8080"]' in cell.log)
