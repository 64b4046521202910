"""The redirect of mutual TLS in a container's namespace: which calls it takes to Envoy, and what leaves where it is gone."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from dataplane.compile import compile_tables
from dataplane.flows import sockdiag
from dataplane.netlink import interior, nftables, redirect
from dataplane.state import INBOUND_PORT, Leaf, Listener, MutualTls, OutboundListener, Workload
from dataplane.tables import ORIGINAL_SOURCE_MARK, TUNNEL_MARK, Redirect
from host.errors import HostRefused
from host.namespace import run_in
from tests.testlib.attacks.attacker import CANARY_PORT, Capture, capture
from tests.testlib.beds.redirect import (
    API,
    APP_PORT,
    EXEMPT,
    EXEMPT_PART,
    NOTHING_NEW,
    OUTSIDE,
    OVERLAY,
    PLAIN_TOO,
    STRICT,
    TLS_PORT,
    WEB,
    Bed,
    arrival,
    held_by_root,
    redirect_bed,
    works,
)
from tests.testlib.hosts import EMPTY
from tests.testlib.node import Reset, outcome_of

SECRET = b"in plain text"
LEAF, CELL = Leaf(b"", b""), IPv4Network("10.255.1.0/32")
MARKS = (TUNNEL_MARK, ORIGINAL_SOURCE_MARK)


@pytest.fixture(scope="module")
def module_bed() -> Iterator[Bed]:
    with redirect_bed() as made:
        yield made


@pytest.fixture
def bed(module_bed: Bed) -> Iterator[Bed]:
    """The scene of this file, without a redirect and without sockets."""
    module_bed.become(None)
    yield module_bed
    module_bed.web.close()
    module_bed.beyond.close()
    module_bed.inside.run("nft", "flush", "ruleset")


ACCEPT, IN_STRICT = MutualTls(True, True, True, frozenset({EXEMPT_PART})), MutualTls(True, True, False)
MODES = {
    "none": (MutualTls(), None),
    "accept": (ACCEPT, replace(PLAIN_TOO, exempt=(CELL, EXEMPT_PART))),
    "strict": (IN_STRICT, replace(STRICT, exempt=(CELL,))),
    "back to none": (MutualTls(True, False, True), replace(NOTHING_NEW, exempt=(OVERLAY, CELL))),
}
OUTBOUND = OutboundListener(LEAF, 900)


def compiled(mode: MutualTls, *listeners: Listener) -> Redirect | None:
    web = Workload("web", WEB, 1, Path("/pin"), listeners=listeners)
    return compile_tables(replace(EMPTY, workloads={WEB: web}, mutual_tls=mode)).interiors[WEB].redirect


@pytest.mark.parametrize(("mode", "wanted"), MODES.values(), ids=MODES)
def test_a_cells_mode_decides_what_is_redirected(mode: MutualTls, wanted: Redirect | None) -> None:
    """Never what goes to the cell itself. On the way back to none nothing new, but streams in tunnels live with the table."""
    assert compiled(mode, OUTBOUND) == wanted


def test_where_envoy_cannot_take_a_containers_calls_they_go_plain_or_nowhere() -> None:
    """A program inside has the port."""
    assert compiled(ACCEPT) == replace(NOTHING_NEW, exempt=(OVERLAY, CELL))
    assert compiled(IN_STRICT) == replace(STRICT, exempt=(CELL,))


@pytest.mark.parametrize("mode", [PLAIN_TOO, STRICT], ids=["accept", "strict"])
def test_only_tcp_to_other_containers_is_taken_to_envoy(bed: Bed, mode: Redirect) -> None:
    bed.become(mode)
    listeners = bed.listeners()
    calls = {(API, APP_PORT): f"envoy for {API}:8080", (API, 1): f"envoy for {API}:1", (WEB, APP_PORT): "own app",
             (API, 15008): "tunnel", (API, TLS_PORT): "tls", (OUTSIDE, APP_PORT): "app"}  # fmt: skip
    calls[EXEMPT, APP_PORT] = "app" if mode.exempt else f"envoy for {EXEMPT}:8080"
    assert {(target, port): arrival(bed, listeners, target, port) for target, port in calls} == calls
    datagrams, answering = bed.web.datagrams(), bed.beyond.datagrams(APP_PORT)
    datagrams.sendto(b"?", (str(API), APP_PORT))
    assert answering.recv(9) == b"?"


def test_the_first_packet_of_a_connection_decides_where_it_goes(bed: Bed) -> None:
    listeners = bed.listeners()
    before = bed.stream(API, APP_PORT, listeners["app"])
    bed.become(PLAIN_TOO)
    redirected, exempt = bed.stream(API, APP_PORT, listeners["envoy"]), bed.stream(EXEMPT, APP_PORT, listeners["app"])
    for later in (replace(PLAIN_TOO, exempt=()), NOTHING_NEW, PLAIN_TOO):
        bed.become(later)
        assert [works(*stream) for stream in (before, redirected, exempt)] == [True] * 3
    bed.become(NOTHING_NEW)
    assert arrival(bed, listeners, API, APP_PORT) == "app"
    bed.become(None)
    assert arrival(bed, listeners, API, APP_PORT) == "app"
    assert [works(*stream) for stream in (before, redirected, exempt)] == [True] * 3


@pytest.mark.parametrize("mark", MARKS)
def test_what_envoy_opens_to_an_app_and_its_answers_stay_inside(bed: Bed, mark: int) -> None:
    bed.become(STRICT)
    calling, taking = bed.stream_of_tunnel(mark, bed.listeners()["own app"])
    with capture(bed.beyond) as leaving:
        assert works(calling, taking, SECRET)
        assert not left(bed, leaving)


@pytest.mark.parametrize("mark", MARKS)
def test_a_port_that_a_caller_and_envoy_for_it_have_both_chosen_is_of_two_connections(bed: Bed, mark: int) -> None:
    """To the app one of them has another port. Without the table for it the later one comes to nothing."""
    bed.become(PLAIN_TOO)
    listener = bed.web.listen(APP_PORT)
    tunnelled = bed.stream_of_tunnel(mark, listener)
    call = bed.call(listener, port=tunnelled[0].getsockname()[1])
    earlier = bed.call(listener)
    later = bed.stream_of_tunnel(mark, listener, port=earlier[0].getsockname()[1])
    streams = (tunnelled, call, earlier, later)
    assert [each.getsockname()[0] for each, _ in streams] == [str(API)] * len(streams)
    for mode in (PLAIN_TOO, NOTHING_NEW, None):
        bed.become(mode)
        assert [works(*stream) for stream in streams] == [True] * len(streams)
    bed.become(STRICT)
    assert works(*tunnelled)
    assert works(*later)


def left(bed: Bed, leaving: Capture) -> bool:
    """Whether it has left by the container's link. A datagram is sent after it, which does."""
    with bed.web.datagrams() as canary:
        canary.sendto(b"canary", (str(OUTSIDE), CANARY_PORT))
    return any(SECRET in bytes(frame) for frame in leaving.frames(until=lambda frame: b"canary" in bytes(frame)))


@pytest.mark.parametrize("port", [INBOUND_PORT, TLS_PORT])
def test_where_only_tunnels_may_leave_envoys_own_ports_answer(bed: Bed, port: int) -> None:
    bed.become(STRICT)
    listening = bed.web.listen(port, address=str(WEB))
    calling = bed.beyond.dial(WEB, port)
    assert works(calling, bed.web.keep(listening.accept()[0]))


def test_an_apps_plain_answer_does_not_leave_where_only_tunnels_may(bed: Bed) -> None:
    """Not even the one that the kernel gives before the app knows of the call."""
    bed.become(STRICT)
    listening = bed.web.listen(APP_PORT, address=str(WEB))
    with capture(bed.beyond) as leaving:
        calling = bed.beyond.keep(run_in(bed.beyond.pin, socket.socket))
        calling.setblocking(False)
        calling.connect_ex((str(WEB), APP_PORT))
        with bed.web.datagrams() as canary:
            canary.sendto(b"canary", (str(OUTSIDE), CANARY_PORT))
        assert not [each for each in leaving.frames(until=lambda frame: b"canary" in bytes(frame)) if TCP in each]
    assert listening


DAMAGE = {
    "the redirect": "nft delete table ip cellnet",
    "the address of lo": "ip address delete 127.0.0.1/8 dev lo",
    "lo": "ip link set lo down",
    "the rule for the marks": "ip rule delete pref 100",
    "the table of the marks": "ip route flush table 77",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_where_root_takes_a_way_to_envoy_away_no_byte_of_a_live_stream_leaves(bed: Bed, damage: str) -> None:
    bed.become(STRICT)
    listeners = bed.listeners()
    calling, taking = bed.stream(API, APP_PORT, listeners["envoy"])
    from_tunnel, app = bed.stream_of_tunnel(TUNNEL_MARK, listeners["own app"])
    assert works(calling, taking)
    assert works(from_tunnel, app)
    with capture(bed.beyond) as leaving:
        bed.inside.run(*damage.split())
        for sending in (calling, app):
            sending.sendall(SECRET)
        assert not left(bed, leaving)
        bed.inside.run("ip", "address", "replace", "127.0.0.1/8", "dev", "lo")
        bed.become(STRICT)
        assert bed.has(STRICT)
        assert [taking.recv(64), from_tunnel.recv(64)] == [SECRET, SECRET]
        assert not left(bed, leaving)


@pytest.mark.parametrize("damage", ["nft delete table ip cellnet", "ip rule delete pref 100"])
def test_without_the_second_table_it_would_leave(bed: Bed, damage: str) -> None:
    """So that the test before this one can fail."""
    bed.become(PLAIN_TOO)
    listeners = bed.listeners()
    calling, _ = bed.stream(API, APP_PORT, listeners["envoy"])
    _, app = bed.stream_of_tunnel(TUNNEL_MARK, listeners["own app"])
    with capture(bed.beyond) as leaving:
        bed.inside.run(*damage.split())
        for sending in (calling, app):
            sending.sendall(SECRET)
        assert left(bed, leaving)


def test_plain_streams_from_before_are_stopped_and_their_end_is_heard(bed: Bed) -> None:
    """Their sockets are destroyed when a cell enters strict: the other end must get the reset."""
    bed.become(PLAIN_TOO)
    calling, taking = bed.stream(EXEMPT, APP_PORT, bed.listeners()["app"])
    assert works(calling, taking)
    bed.become(STRICT)
    with capture(bed.beyond) as leaving:
        calling.sendall(SECRET)
        assert not left(bed, leaving)
    run_in(bed.inside.path, lambda: sockdiag.destroy(sockdiag.tcp_sockets(remote=EXEMPT)))
    assert outcome_of(lambda: taking.recv(64)) is Reset


def test_a_live_container_is_never_without_its_gateway(bed: Bed) -> None:
    """The kernel forgets all neighbours of a link whose MAC is set, though it is the same; a packet between would be lost."""
    bed.inside.run(
        "ip", "neighbour", "replace", "169.254.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0", "nud", "permanent"
    )
    bed.become(STRICT)
    assert "169.254.0.9" in bed.inside.run("ip", "neighbour")


@pytest.mark.parametrize(
    "damage",
    [
        "delete table ip cellnet",
        "delete table ip cellnet-only-tunnels",
        "flush ruleset",
        "flush chain ip cellnet output",
        "insert rule ip cellnet output accept",
        "add rule ip cellnet output accept",
        "add chain ip cellnet mine",
        "add set ip cellnet mine { type ipv4_addr; }",
        "add table ip cellnet { flags dormant; }",
        "add chain ip cellnet-only-tunnels postrouting { policy drop; }",
        "delete chain ip cellnet output; add chain ip cellnet output { type nat hook output priority 5; }",
    ],
)
def test_a_table_that_root_has_changed_is_seen_and_mended(bed: Bed, damage: str) -> None:
    bed.become(STRICT)
    assert bed.has(STRICT)
    written = bed.tables()
    bed.inside.run("nft", damage)
    assert not bed.has(STRICT)
    bed.become(STRICT)
    assert bed.has(STRICT)
    assert bed.tables() == written


def test_a_rule_that_leads_elsewhere_is_seen(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one value of the redirect that is the same in all."""
    with monkeypatch.context() as patch:
        patch.setattr(redirect, "OUTBOUND_PORT", 15002)
        redirect._tables.cache_clear()
        bed.become(STRICT)
    redirect._tables.cache_clear()
    assert not bed.has(STRICT)


def test_other_tables_in_the_namespace_stay(bed: Bed) -> None:
    bed.inside.run("nft", "add table ip mine; add chain ip mine out { type nat hook output priority 0; }")
    before = bed.tables()
    bed.become(STRICT)
    interior.clear(bed.inside.path)
    assert bed.tables() == before


def test_a_namespace_in_which_nothing_was_redirected_has_no_table(bed: Bed) -> None:
    bed.become(None)
    assert bed.tables() == ""


def test_a_namespace_that_is_left_has_no_table_and_no_rule_of_ours(bed: Bed) -> None:
    without = bed.inside.run("ip", "rule").replace(mark_rule(bed), "")
    bed.become(STRICT)
    interior.clear(bed.inside.path)
    assert (bed.tables(), bed.inside.run("ip", "rule")) == ("", without)


def mark_rule(bed: Bed) -> str:
    return "".join(f"{line}\n" for line in bed.inside.run("ip", "rule").splitlines() if "fwmark" in line)


FORMER = "rule add pref 100 fwmark 77 lookup 77"


def test_the_rule_of_an_older_agent_becomes_the_one_for_both_marks(bed: Bed) -> None:
    both = mark_rule(bed)
    assert "fwmark 0x4c/0xfffffffe lookup 77" in both
    bed.inside.run("ip", "rule", "delete", "pref", "100")
    bed.inside.run("ip", *FORMER.split())
    assert not bed.has(None)
    bed.become(None)
    assert bed.has(None)
    assert mark_rule(bed) == both


def test_nothing_of_an_older_agent_is_left_in_a_namespace(bed: Bed) -> None:
    bed.inside.run("ip", "rule", "delete", "pref", "100")
    bed.inside.run("ip", *FORMER.split())
    interior.clear(bed.inside.path)
    assert mark_rule(bed) == ""
    assert "default" not in bed.inside.run("ip", "route", "show", "table", "77", check=False)


def test_a_kernel_without_nf_tables_refuses_that_container(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says the same of a part that takes no batches: ipset."""
    with monkeypatch.context() as patch:
        patch.setattr(nftables, "OF_NF_TABLES", struct.pack("!BBH", 0, 0, 6))
        nftables._batch.cache_clear()
        with pytest.raises(HostRefused, match="not supported") as refused:
            bed.become(STRICT)
        assert "CONFIG_NFT_REDIR" in refused.value.hint
        bed.become(None)
    nftables._batch.cache_clear()
    bed.become(STRICT)
    assert bed.has(STRICT)


def test_a_table_that_roots_own_program_holds_is_refused_and_keeps_no_detach_from_its_end(bed: Bed) -> None:
    with held_by_root(bed.inside):
        with pytest.raises(HostRefused, match="not permitted"):
            bed.become(STRICT)
        interior.clear(bed.inside.path)
        assert mark_rule(bed) == ""
    bed.become(STRICT)
    assert bed.has(STRICT)


parts = st.builds(lambda third: IPv4Network(f"10.255.{third}.0/24"), st.integers(0, 9))
redirects = st.none() | st.builds(
    Redirect,
    overlay=st.sampled_from([OVERLAY, IPv4Network("10.254.0.0/15")]),
    direct_ports=st.sampled_from([(15008,), (15008, TLS_PORT), (8443, 15008)]),
    exempt=st.frozensets(parts | st.just(IPv4Network("10.255.4.0/22")), max_size=6).map(lambda found: tuple(sorted(found))),
    only_tunnels=st.booleans(),
)


@given(steps=st.lists(redirects, min_size=2, max_size=5))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_redirect_becomes_any_other(bed: Bed, steps: list[Redirect | None]) -> None:
    """But that a namespace in which something was redirected keeps what goes on with NAT."""
    written: dict[Redirect | None, str] = {}
    bed.become(NOTHING_NEW)
    for step in steps:
        bed.become(step)
        assert bed.has(step)
        same = written.setdefault(step, bed.tables())
        assert bed.tables() == same
        for other in steps:
            if other in written and written[other] != same:
                assert not bed.has(other)


def test_thousands_of_exempt_parts_are_as_few_comparisons_as_will_do(bed: Bed) -> None:
    apart = [IPv4Network((0x0A000000 + 512 * number, 24)) for number in range(2_000)]
    wide = Redirect(IPv4Network("10.0.0.0/8"), (15008,), tuple(apart))
    bed.become(wide)
    assert bed.has(wide)
    assert bed.tables().count("accept\n") == 2_000
    neighbours = replace(wide, exempt=tuple(IPv4Network((0x0A000000 + 256 * number, 24)) for number in range(2_000)))
    bed.become(neighbours)
    assert bed.tables().count("accept\n") == 1
    assert "ip daddr 10.0.0.0-10.7.207.255 accept" in bed.tables()
