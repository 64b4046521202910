"""A stream in a tunnel ends when its caller loses the right to its port, and no other of the same tunnel does."""

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from dataplane.flows import streams
from dataplane.flows.streams import CutStreams
from dataplane.state import INBOUND_PORT, Allow, Tunnel
from dataplane.tables import ORIGINAL_SOURCE_MARK
from tests.testlib.beds.conntrack import BedContainer, ConntrackBed, pair
from tests.testlib.beds.streams import AppEnd, arrive, call, lead_to_envoy
from tests.testlib.connections import is_alive, is_reset

FAR, AFAR = IPv4Address("10.200.2.2"), IPv4Network("10.200.2.0/24")
FAR_TAG, OTHER_TAG = 40, 41


def permit(bed: ConntrackBed, to: BedContainer, *rights: tuple[BedContainer, int]) -> None:
    """Tunnels from every container, and streams in them as these rights say."""
    bed.permit(*((caller, to, "tcp", INBOUND_PORT) for caller, _ in rights))
    allowed = {Allow(caller.workload.tag, "tcp", port, port) for caller, port in rights}
    put(bed, to, *bed.state.workloads[to.workload.address].allows, *allowed)


def put(bed: ConntrackBed, to: BedContainer, *allows: Allow) -> None:
    held = replace(bed.state.workloads[to.workload.address], allows=frozenset(allows))
    bed.state = replace(bed.state, workloads={**bed.state.workloads, held.address: held})


@pytest.mark.parametrize("everything", [False, True], ids=["one address", "all addresses"])
def test_exactly_the_streams_that_lost_their_right_end(bed: ConntrackBed, everything: bool) -> None:
    web, other, api, db = (bed.container(name) for name in ("web", "other", "api", "db"))
    for each in (api, db):
        lead_to_envoy(each)
    at_web, at_other = lead_to_envoy(web), lead_to_envoy(other)
    permit(bed, api, (web, 8080), (web, 9000), (other, 8080))
    put(bed, db, Allow(web.workload.tag, "tcp", 8080, 8080))
    tunnel = pair(web, api, INBOUND_PORT)
    revoked = [(call(web, at_web, api, 8080), arrive(api, web.address, 8080)) for _ in range(2)]
    kept = (
        *(call(web, at_web, api, 9000), arrive(api, web.address, 9000)),
        *(call(other, at_other, api, 8080), arrive(api, other.address, 8080)),
        *(call(web, at_web, db, 8080), arrive(db, web.address, 8080)),
        arrive(api, web.address, 8080, mark=ORIGINAL_SOURCE_MARK),  # of 61443
    )
    permit(bed, api, (web, 9000), (other, 8080))
    receipt = bed.sweep(*() if everything else (api,))
    for caller_end, app_end in revoked:
        assert is_reset(caller_end.client)
        assert is_reset(app_end.app)
    assert all(each.lives() for each in kept)
    assert is_alive(*tunnel)
    assert receipt.streams == (CutStreams(web.workload.address, web.workload.tag, api.workload.address, 8080, 2),)
    assert (receipt.flows, receipt.count) == ((), 2)


@pytest.mark.parametrize("most", [10, 100])
def test_sockets_to_which_root_inside_gives_envoys_mark_are_no_streams_where_they_are_more_than_envoy_can_have(
    bed: ConntrackBed, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """To destroy 50,000 takes seconds, and the receipt would have streams of callers that never called."""
    monkeypatch.setattr(streams, "MOST", most)
    web, api = bed.container("web"), bed.container("api")
    lead_to_envoy(api)
    permit(bed, api, (web, 8080))
    pair(web, api, INBOUND_PORT)
    own = [arrive(api, web.address, 8080) for _ in range(5)]
    forged = [arrive(api, address, 9000) for address in (web.address, str(FAR)) for _ in range(10)]
    permit(bed, api, (web, 7000))
    inodes = frozenset(os.fstat(each.envoy.fileno()).st_ino for each in own)
    receipt = bed.sweep(api, envoy=lambda: inodes)
    assert all(is_reset(each.app) for each in own)
    found = {(each.port, each.count) for each in receipt.streams}
    if most == 10:
        assert found == {(8080, 5)}
        assert all(each.lives() for each in forged)
    else:
        assert found == {(8080, 5), (9000, 10)}


def test_without_envoys_word_all_that_have_its_mark_are_streams(bed: ConntrackBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST", 1)
    web, api = bed.container("web"), bed.container("api")
    lead_to_envoy(api)
    permit(bed, api, (web, 8080))
    pair(web, api, INBOUND_PORT)
    own = [arrive(api, web.address, 8080) for _ in range(5)]
    permit(bed, api, (web, 7000))
    assert [each.count for each in bed.sweep(api).streams] == [5]
    assert all(is_reset(each.app) for each in own)


def test_what_is_allowed_is_left_alone(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    lead_to_envoy(api)
    permit(bed, api, (web, 8080))
    pair(web, api, INBOUND_PORT)
    stream = arrive(api, web.address, 8080)
    assert not bed.sweep()
    assert not bed.sweep(api)
    assert stream.lives()


def test_a_plain_connection_of_the_same_caller_to_the_same_port_is_not_taken_for_a_stream(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    lead_to_envoy(api)
    permit(bed, api, (web, 8080))
    bed.permit((web, api, "tcp", INBOUND_PORT), (web, api, "tcp", 8080))
    pair(web, api, INBOUND_PORT)
    plain, stream = pair(web, api, 8080), arrive(api, web.address, 8080)
    put(bed, api)
    receipt = bed.sweep(api)
    assert all(map(is_reset, plain))
    assert is_reset(stream.app)
    assert [each.count for each in receipt.streams] == [1]
    assert {each.reply_source_port for each in receipt.flows} == {INBOUND_PORT, 8080}


def test_streams_of_a_tunnel_that_is_cut_itself_are_reset_first(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    lead_to_envoy(api)
    at_web = lead_to_envoy(web)
    permit(bed, api, (web, 8080))
    tunnel = pair(web, api, INBOUND_PORT)
    caller_end, app_end = call(web, at_web, api, 8080), arrive(api, web.address, 8080)
    bed.permit()
    receipt = bed.sweep(api)
    assert all(map(is_reset, (*tunnel, caller_end.client, app_end.app)))
    assert [each.count for each in receipt.streams] == [len(receipt.flows)] == [1]


@pytest.mark.parametrize("everything", [False, True], ids=["its address", "all addresses"])
def test_streams_of_a_caller_that_has_gone_end(bed: ConntrackBed, everything: bool) -> None:
    web, api = bed.container("web"), bed.container("api")
    lead_to_envoy(api)
    permit(bed, api, (web, 8080))
    pair(web, api, INBOUND_PORT)
    stream = arrive(api, web.address, 8080)
    bed.state = replace(bed.state, workloads={api.workload.address: bed.state.workloads[api.workload.address]})
    receipt = bed.sweep(*() if everything else (web,))
    assert is_reset(stream.app)
    assert receipt.streams == (CutStreams(web.workload.address, 0, api.workload.address, 8080, 1),)


def test_a_missing_namespace_of_the_caller_keeps_no_stream(bed: ConntrackBed, tmp_path: Path) -> None:
    web, api = bed.container("web"), bed.container("api")
    lead_to_envoy(api)
    permit(bed, api, (web, 8080))
    pair(web, api, INBOUND_PORT)
    stream = arrive(api, web.address, 8080)
    gone = replace(web.workload, pin=tmp_path / "gone")
    bed.state = replace(bed.state, workloads={**bed.state.workloads, gone.address: gone})
    put(bed, api)
    bed.sweep(api)
    assert is_reset(stream.app)


# callers on other cells


@pytest.fixture
def far(bed: ConntrackBed) -> ConntrackBed:
    """The bed with a peer, from where FAR calls."""
    bed.state = replace(
        bed.state, tunnel=Tunnel("u0", IPv4Address("10.77.0.1"), 1, 4789), peers={AFAR: IPv4Address("10.77.0.2")}
    )
    return bed


def tunnel_from_afar(bed: ConntrackBed, to: BedContainer, *, tag: int, port: int = 40000) -> None:
    """Its entry in the host's table, as our rules leave it there: with the tag that came along."""
    ends = f"-p tcp -s {FAR} -d {to.address} --sport {port} --dport {INBOUND_PORT}"
    bed.host.run("conntrack", "-I", *f"{ends} --state ESTABLISHED -t 600 --mark {tag}".split())


def from_afar(bed: ConntrackBed, to: BedContainer, port: int) -> AppEnd:
    return arrive(to, str(FAR), port)


def test_a_stream_from_another_cell_is_judged_by_the_tag_of_its_tunnel(far: ConntrackBed) -> None:
    api = far.container("api")
    lead_to_envoy(api)
    tunnel = Allow(FAR_TAG, "tcp", INBOUND_PORT, INBOUND_PORT)
    put(far, api, tunnel, Allow(FAR_TAG, "tcp", 8080, 8090))
    tunnel_from_afar(far, api, tag=FAR_TAG)
    kept, revoked = from_afar(far, api, 8080), from_afar(far, api, 8090)
    assert not far.sweep(api)
    put(far, api, tunnel, Allow(FAR_TAG, "tcp", 8080, 8089), Allow(OTHER_TAG, "tcp", 8090, 8090))
    receipt = far.sweep(api)
    assert is_reset(revoked.app)
    assert kept.lives()
    assert receipt.streams == (CutStreams(FAR, FAR_TAG, api.workload.address, 8090, 1),)
    assert len(far.flows()) == 1


def test_streams_of_an_address_that_is_another_apps_now_end_though_that_may_call_too(far: ConntrackBed) -> None:
    api = far.container("api")
    lead_to_envoy(api)
    ports = (INBOUND_PORT, 8080)
    put(far, api, *(Allow(tag, "tcp", port, port) for tag in (FAR_TAG, OTHER_TAG) for port in ports))
    tunnel_from_afar(far, api, tag=FAR_TAG)
    stream = from_afar(far, api, 8080)
    assert not far.sweep(departed={FAR: FAR_TAG})
    receipt = far.sweep(departed={FAR: OTHER_TAG})
    assert is_reset(stream.app)
    assert (len(receipt.streams), len(receipt.flows)) == (1, 1)


def test_what_is_left_of_a_stream_whose_tunnel_has_ended_is_not_judged(far: ConntrackBed) -> None:
    """Its last bytes may be on their way to a slow app, and the tag that they came with is not known any more."""
    api = far.container("api")
    lead_to_envoy(api)
    put(far, api, Allow(OTHER_TAG, "tcp", INBOUND_PORT, INBOUND_PORT))
    stream = from_afar(far, api, 8080)
    far.host.run(
        *f"conntrack -I -p tcp -s 10.200.2.9 -d {api.address} --sport 4000 --dport {INBOUND_PORT}".split(),
        *f"--state ESTABLISHED -t 600 --mark {OTHER_TAG}".split(),
    )
    assert not far.sweep(api)
    assert stream.lives()
