"""Where all TCP goes through tunnels, a right that is taken back ends exactly the streams that it had allowed."""

import json
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from host.namespace import run_in
from lab.cell import Cell
from tests.testlib.beds.streams import dialled_as
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive, is_ended, is_reset
from tests.testlib.failures import suspended
from tests.testlib.instance import Instance
from tests.testlib.node import pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, policies, web_to_api
from tests.testlib.status import reports
from tests.testlib.unsupervised_cell import UnsupervisedCell

FILE = "shop.yaml"
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("tls.mtls=strict",)


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return UnsupervisedCell


def is_cut(ends: Ends) -> bool:
    """The caller sees a reset. So does the app, unless Envoy, which has lost its caller, is quicker."""
    client, server = ends
    return is_reset(client) and is_ended(server)


def is_refused(client: Instance, server: Instance, port: int) -> bool:
    """A call is taken by the own Envoy, and ends without a byte, and without one at the app."""
    with server.listen(port) as listener, client.dial(server, port) as called:
        ended = is_ended(called)
        listener.setblocking(False)
        with suppress(BlockingIOError):
            listener.accept()
            return False
        return ended


def last_cut(cell: CellUnderTest) -> str:
    cell.sync()
    return next(cell.status().at("last_cuts").each()).text("what")


def test_exactly_the_streams_that_lost_their_right_end(cell: CellUnderTest, tmp_path: Path) -> None:
    web, api, other = cell.run_app(WEB), cell.run_app(API), cell.run_app(OTHER)
    kept_right = f"from: {OTHER}, to: {API}, tcp: 9000"
    cell.policy_file(FILE, policies(f"from: {WEB}, to: {API}, tcp: [8080, 8999-9000, 9001, 61443]", kept_right))
    revoked = [pair(web, api, 9000) for _ in range(3)]
    kept = pair(web, api, 9001), pair(web, api, 8999), pair(other, api, 9000)
    with api.listen(8080) as listener:
        secure = web.dial_tls(api), api.keep(listener.accept()[0])
    assert all(is_alive(*each) for each in (*revoked, *kept, secure))
    (change := tmp_path / FILE).write_text(policies(f"from: {WEB}, to: {API}, tcp: [8999, 9001, 61443]", kept_right))
    foreseen = cell.cellnet("policy", "diff", str(change)).out
    cell.policy_file(FILE, change.read_text(), sync=False)
    assert all(map(is_cut, revoked))
    assert all(is_alive(*each) for each in (*kept, secure))
    assert is_refused(web, api, 9000)
    assert last_cut(cell) == f"3 streams of {WEB} ({web.address}) to {API} ({api.address}) tcp/9000"
    assert f"cuts 3 live connections of this cell:\n  {last_cut(cell)}\n" in foreseen
    receipt = next(json.loads(line) for line in reversed(cell.log.splitlines()) if '"flows_cut"' in line)
    assert (receipt["what"], receipt["flows"], receipt["count"]) == ([last_cut(cell)], [], 3)


def test_what_is_foreseen_is_what_apps_lose_though_their_tunnels_end_too(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file(FILE, policies(f"from: {WEB}, to: {API}, tcp: 9000"))
    streams = [pair(web, api, 9000) for _ in range(3)]
    assert all(is_alive(*each) for each in streams)
    nothing = "policies: []\n"
    found = cell.client.post("/v1/policies/diff", {"files": {FILE: nothing}}).at("cuts")
    lost = f"3 streams of {WEB} ({web.address}) to {API} ({api.address}) tcp/9000"
    assert (found.text("count"), found.texts("lines")) == ("3", (lost,))
    cell.policy_file(FILE, nothing, sync=False)
    assert all(map(is_cut, streams))
    assert lost in last_cut(cell)


def test_every_way_of_revoking_ends_the_stream_and_allowing_again_works_at_once(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    scope = policies(f"from: same-space, to: {API}, tcp: 9000")
    changes = {
        "a file that goes": (web_to_api("tcp: 9000"), "policies: []\n"),
        "out of a range": (web_to_api("tcp: 8990-9010"), web_to_api("tcp: [8990-8999, 9001-9010]")),
        "a scope that goes": (scope, policies(f"from: acme/bank/*, to: {API}, tcp: 9000")),
        "61443 stays": (web_to_api("tcp: [9000, 61443]"), web_to_api("tcp: 61443")),
        "UDP stays": (web_to_api("tcp: 9000", "udp: 9000"), web_to_api("udp: 9000")),
    }
    for what, (before, after) in changes.items():
        cell.policy_file(FILE, before)
        stream = pair(web, api, 9000)
        assert is_alive(*stream), what
        cell.policy_file(FILE, after, sync=False)
        assert is_cut(stream), what
    cell.policy_file(FILE, "policies: []\n")
    cell.cellnet("policy", "allow", WEB, API, "tcp/9000")
    stream = pair(web, api, 9000)
    assert is_alive(*stream)
    cell.cellnet("policy", "delete", WEB, API, "tcp/9000")
    stream[0].setblocking(False)
    with pytest.raises(ConnectionResetError):
        stream[0].recv(1)  # when the command returns, it has been cut


def test_a_stream_that_an_audit_lets_in_is_recorded_and_lives_on_once_a_policy_allows_it(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    wide = f"from: same-space, to: {API}, tcp: 9000-9001"
    cell.policy_file(FILE, policies(f"{wide}, mode: audit", f"from: {WEB}, to: {API}, tcp: 9001"))

    def recorded() -> list[tuple[str, str, str]]:
        found = cell.client.get("/v1/denied", to=API).at("denied").each()
        return [(each.text("from"), each.text("port"), each.text("reason")) for each in found if each.text("reason") == "audit"]

    audited, allowed = pair(web, api, 9000), pair(web, api, 9001)
    assert is_refused(web, api, 9002)
    eventually(lambda: recorded() == [(WEB, "9000", "audit")])
    assert "audit" not in cell.status().at("refusals").at("reasons").fields, "it is none"
    cell.policy_file(FILE, policies(wide))
    assert is_alive(*audited)
    assert is_alive(*allowed)
    cell.policy_file(FILE, "policies: []\n", sync=False)
    assert is_cut(audited)


def test_a_container_that_goes_takes_its_streams_along_at_both_ends(cell: CellUnderTest) -> None:
    web, api, other = cell.run_app(WEB), cell.run_app(API), cell.run_app(OTHER)
    rights = [f"from: {source}, to: {to}, tcp: 9000" for source, to in ((WEB, API), (OTHER, API), (API, OTHER))]
    cell.policy_file(FILE, policies(*rights))
    from_web, from_other, to_other = pair(web, api, 9000), pair(other, api, 9000), pair(api, other, 9000)
    web.stop()
    assert is_ended(from_web[1])
    assert is_alive(*from_other)
    other.kill()
    assert is_ended(from_other[1])
    assert is_ended(to_other[0])


def test_an_envoy_that_hangs_is_reported_and_cut_off_and_lets_nothing_in_when_it_goes_on(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file(FILE, web_to_api("tcp: [9000, 9001]"))
    revoked, kept = pair(web, api, 9000), pair(web, api, 9001)
    with api.listen(9000), suspended(cell.envoy_pid):
        waiting = web.dial(api, 9000)  # in the queue of the own Envoy
        cell.policy_file(FILE, web_to_api("tcp: 9001"), sync=False)
        assert all(map(is_reset, revoked))
        assert "Envoy has not taken yet what may reach api" in cell.cellnet("sync", "--timeout", "1", code=1).err
        assert reports(cell, "envoy", "has not taken yet what may reach api")
    assert is_ended(waiting)
    cell.wait_well()
    assert is_alive(*kept)
    assert is_refused(web, api, 9000)
    cell.policy_file(FILE, web_to_api("tcp: [9000, 9001]"))
    assert is_alive(*pair(web, api, 9000))


def test_an_envoy_that_is_killed_during_a_revoke_comes_back_with_the_smaller_rights(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file(FILE, web_to_api("tcp: [9000, 9001]"))
    streams = pair(web, api, 9000), pair(web, api, 9001)
    with suspended(cell.envoy_pid):
        cell.policy_file(FILE, web_to_api("tcp: 9001"), sync=False)
        assert all(map(is_reset, streams[0]))
        cell.kill("envoy")
    assert all(is_ended(each) for ends in streams for each in ends)
    cell.start()
    assert is_refused(web, api, 9000)
    assert is_alive(*pair(web, api, 9001))


def test_an_agent_that_is_killed_between_envoys_word_and_the_cut_leaves_the_cut_to_the_next(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file(FILE, web_to_api("tcp: [9000, 9001]"))
    revoked, kept = pair(web, api, 9000), pair(web, api, 9001)
    with suspended(cell.envoy_pid):  # which has the turn wait
        cell.policy_file(FILE, web_to_api("tcp: 9001"), sync=False)
        time.sleep(0.25)
        cell.kill("agent")
    assert is_alive(*revoked), "the agent was killed too late"
    cell.start()
    assert is_cut(revoked)
    assert is_alive(*kept)
    assert is_refused(web, api, 9000)


def test_sync_waits_until_envoy_goes_by_what_a_new_agent_gives_it(cell: CellUnderTest) -> None:
    """Until then it lets in what the agent before allowed."""
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file(FILE, web_to_api("tcp: 9000"))
    assert is_alive(*pair(web, api, 9000))
    cell.kill("agent")
    cell.policy_file(FILE, "policies: []\n", sync=False)
    with suspended(cell.envoy_pid):
        cell.start(well=False)
        eventually(lambda: "Envoy has not taken yet what" in cell.cellnet("sync", "--timeout", "1", code=None).err)
    cell.sync()
    assert is_refused(web, api, 9000)


def test_after_a_repair_of_the_rules_streams_are_looked_through_too(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file(FILE, web_to_api("tcp: 9000"))
    kept = pair(web, api, 9000)
    with api.listen(9001) as listener:  # what no turn would look for
        forged = api.keep(run_in(api.pin, lambda: dialled_as(str(web.address), str(api.address), 9001)))
        served = api.keep(listener.accept()[0])
    cell.sync()
    assert is_alive(forged, served)
    cell.host.run("iptables-nft", "-F", "FORWARD")
    assert is_reset(served)
    assert is_alive(*kept)


def test_nothing_of_an_addresss_last_container_serves_the_next_at_either_end(make_cell: Callable[..., CellUnderTest]) -> None:
    """On a cell with five addresses."""
    cell = make_cell("tls.mtls=strict", "overlay.cell_prefix=29")
    for number in range(2):
        cell.run_app("acme/shop/idle", name=f"idle-{number}")
    web, api, other = cell.run_app(WEB), cell.run_app(API), cell.run_app(OTHER)
    rights = f"from: [{WEB}, acme/bank/web, {OTHER}], to: {API}, tcp: 9000", f"from: {WEB}, to: acme/bank/api, tcp: 9000"
    cell.policy_file(FILE, policies(*rights))
    of_web, of_other = pair(web, api, 9000), pair(other, api, 9000)
    web.stop()
    caller = cell.run_app("acme/bank/web", name="next-web")
    assert caller.address == web.address
    assert is_ended(of_web[1])
    assert f"{web.address}:" not in api.run("ss", "-Htn", "src", str(api.address))
    assert is_alive(*pair(caller, api, 9000))
    api.stop()
    called = cell.run_app("acme/bank/api", name="next-api")
    assert called.address == api.address
    assert is_ended(of_other[0])
    assert other.run("ss", "-Htn", "dport", "=", "15008") == ""
    assert is_refused(other, called, 9000)
    assert is_refused(caller, called, 9000)


def test_a_container_that_goes_ends_its_streams_with_others_and_no_other_stream(cell: CellUnderTest) -> None:
    """Those to it and those from it; it goes while they carry bytes."""
    web, api, other = cell.run_app(WEB), cell.run_app(API), cell.run_app(OTHER)
    cell.policy_file(FILE, policies(f"from: [{WEB}, {OTHER}], to: {API}, tcp: 9000", f"from: {API}, to: {OTHER}, tcp: 9000"))
    to_it, from_it, beside = pair(other, api, 9000), pair(api, other, 9000), pair(web, api, 9000)
    third = cell.run_app(OTHER, name="third")
    kept = pair(third, api, 9000)
    assert all(is_alive(*each) for each in (to_it, from_it, beside, kept))
    other.app.stop()
    assert is_ended(to_it[1])
    assert is_ended(from_it[0])
    assert all(is_alive(*each) for each in (beside, kept))
