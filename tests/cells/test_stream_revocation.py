"""Between cells whose TCP all goes through tunnels, a right that is taken back ends exactly the streams that it had allowed."""

from collections.abc import Callable, Sequence

import pytest

from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.connections import is_alive, is_ended, is_reset
from tests.testlib.failures import suspended
from tests.testlib.node import pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, policies, web_to_api

FILE = "shop.yaml"
KEPT = policies(f"from: {WEB}, to: {API}, tcp: [8080, 9001, 61443]", f"from: {OTHER}, to: {API}, tcp: 9000")


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("tls.mtls=strict",)


def by_the_file(cells: CellsUnderTest) -> Callable[[], object]:
    cells[2].policy_file("more.yaml", web_to_api("tcp: 9000"))
    return lambda: cells[2].remove_policy_file("more.yaml")


def by_the_store(cells: CellsUnderTest) -> Callable[[], object]:
    """Given on the callers' cell, and taken back on a third."""
    cells.allow(WEB, API, "tcp/9000")
    return lambda: cells[3].cellnet("policy", "delete", WEB, API, "tcp/9000")


@pytest.mark.parametrize("right", [by_the_file, by_the_store])
def test_exactly_the_streams_that_lost_their_right_end_wherever_their_callers_are(
    cells: CellsUnderTest, place: Place, right: Callable[[CellsUnderTest], Callable[[], object]]
) -> None:
    web, other, api, beside = place(1, WEB), place(1, OTHER), place(2, API), place(2, WEB, name="beside")
    cells[2].policy_file(FILE, KEPT)
    revoke = right(cells)
    revoked, at_home = [pair(web, api, 9000) for _ in range(2)], pair(beside, api, 9000)
    kept = [pair(web, api, 9001), pair(other, api, 9000), pair(beside, api, 9001)]
    with api.listen(8080) as listener:
        kept.append((web.dial_tls(api), api.keep(listener.accept()[0])))
    assert all(is_alive(*each) for each in (*revoked, at_home, *kept))
    revoke()
    for client, server in revoked:
        assert is_ended(client)  # no reset crosses a tunnel
        assert is_reset(server)
    assert is_reset(at_home[0])
    assert all(is_alive(*each) for each in kept)
    cells[2].sync()
    receipt = next(cells[2].status().at("last_cuts").each()).text("what")
    ends = f"of {WEB} ({web.address}) to {API} ({api.address}) tcp/9000"
    assert receipt == f"2 streams {ends}; 1 stream {ends.replace(str(web.address), str(beside.address))}"
    with api.listen(9000), web.dial(api, 9000) as called:
        assert is_ended(called)
    right(cells)
    assert is_alive(*pair(web, api, 9000))


def test_with_the_last_right_the_tunnel_goes_too_and_the_caller_sees_the_end(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API)
    cells[2].policy_file(FILE, policies(f"from: acme/shop/*, to: {API}, tcp: any"))
    streams = [pair(web, api, port) for port in (9000, 9001)]
    cells[2].policy_file(FILE, policies(f"from: acme/bank/*, to: {API}, tcp: any"), sync=False)
    assert all(is_ended(client) and is_reset(server) for client, server in streams)
    eventually(lambda: web.run("ss", "-Htn", "dport", "=", "15008") == "")


def test_a_caller_that_goes_with_its_cells_word_leaves_no_stream(cells: CellsUnderTest, place: Place) -> None:
    web, other, api = place(1, WEB), place(1, OTHER), place(2, API)
    cells[2].policy_file(FILE, policies(f"from: [{WEB}, {OTHER}], to: {API}, tcp: 9000"))
    gone, kept = pair(web, api, 9000), pair(other, api, 9000)
    web.stop()
    assert is_ended(gone[1])
    assert is_alive(*kept)


def test_where_the_apps_envoy_hangs_the_app_is_cut_off_at_once_and_the_caller_when_it_goes_on(
    cells: CellsUnderTest, place: Place
) -> None:
    web, api = place(1, WEB), place(2, API)
    cells[2].policy_file(FILE, web_to_api("tcp: [9000, 9001]"))
    revoked, kept = pair(web, api, 9000), pair(web, api, 9001)
    with suspended(cells[2].envoy_pid):
        cells[2].policy_file(FILE, web_to_api("tcp: 9001"), sync=False)
        assert is_reset(revoked[1])
    assert is_ended(revoked[0])
    assert is_alive(*kept)


def test_a_container_that_goes_ends_its_streams_with_other_cells(cells: CellsUnderTest, place: Place) -> None:
    web, api, beside = place(1, WEB), place(2, API), place(2, WEB, name="beside")
    for number in (1, 2):
        cells[number].policy_file(FILE, policies(f"from: {WEB}, to: {API}, tcp: 9000", f"from: {API}, to: {WEB}, tcp: 9000"))
    to_it, from_it, kept = pair(web, api, 9000), pair(api, web, 9000), pair(beside, api, 9000)
    assert all(is_alive(*each) for each in (to_it, from_it, kept))
    cells[1].cellnet("detach", web.name)
    assert is_ended(to_it[1])
    assert is_ended(from_it[0])
    assert is_alive(*kept)
