"""Attachments, tags and rights in, the host's state out; and what a change between two states takes away."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from agent.loop.desired import CellFacts, desired_state
from agent.loop.revocation import lost_rights
from agent.loop.snapshot import Snapshot
from agent.model.attachment import Attachment, Phase
from agent.model.names import AppName
from agent.model.publication import Publication
from agent.policy.rights.outside import BothWays, OutsideResolver
from dataplane.envoy.sockets.container_ports import ContainerPort
from dataplane.state import (
    Allow,
    HostState,
    InboundListener,
    Leaf,
    Listener,
    MutualTls,
    OutboundListener,
    OutsideRight,
    TargetHttp,
    TlsListener,
)
from tests.testlib.oracle import Mode
from tests.testlib.samples import API, FIRST, SECOND, WEB, attachment
from tests.testlib.tunnels.modes import BACK, MODES

FACTS = CellFacts(
    overlay=IPv4Network("10.255.0.0/16"),
    subnet=IPv4Network("10.255.1.0/24"),
    pins=Path("/pins"),
    tls_port=61443,
    egress_allowed=False,
    host_services=(),
    trust_domain="cell.internal",
    longest_tunnel=3600,
)
LEAF = Leaf(b"chain", b"key")
RIGHT = Allow(1, "tcp", 8080, 8080)
OUT, WITHIN = (frozenset({OutsideRight(kind, 443, 443, (IPv4Network("192.0.2.0/24"),))}) for kind in ("tcp", "udp"))
NOTHING: frozenset[OutsideRight] = frozenset()
NEVER = (IPv4Network("10.255.0.0/16"), IPv4Network("127.0.0.0/8"))
NONE, ACCEPT, STRICT = (MODES[mode] for mode in Mode)


def snapshot(*attachments: Attachment) -> Snapshot:
    return Snapshot(
        attachments=attachments,
        tags={WEB: 1, API: 2},
        leaves={"api": LEAF},
        resolve=lambda app: frozenset({RIGHT}) if app == API else frozenset(),
        groups={"acme/*/*": frozenset({1, 2})},
        outside=OutsideResolver().rights,
        never_outside=(),
        trust_bundle=b"roots",
    )


def state(*attachments: Attachment) -> HostState:
    return desired_state(snapshot(*attachments), facts=FACTS)


TWO = (attachment(WEB, address=FIRST), attachment(API, address=SECOND))
SERVED = MutualTls(served=True)
API_OUT, API_IN = (
    ContainerPort(IPv4Address("127.0.0.1"), 15001, Path("/pins/api")),
    ContainerPort(SECOND, 15008, Path("/pins/api")),
)
LATER: Sequence[Snapshot] = (
    snapshot(*TWO),
    snapshot(TWO[1]),
    snapshot(TWO[0], replace(TWO[1], name="other")),
    snapshot(TWO[0], replace(TWO[1], interface="eth1")),
    snapshot(TWO[0], replace(TWO[1], tls_target=9090)),
    snapshot(TWO[0], replace(TWO[1], tls_http=TargetHttp.HTTP2)),
    snapshot(TWO[0], replace(TWO[1], address=FIRST + 5)),
    replace(snapshot(*TWO), tags={WEB: 3, API: 2}),
    replace(snapshot(*TWO), leaves={}),
    replace(snapshot(*TWO), leaves={"api": Leaf(b"renewed", b"key")}),
    replace(snapshot(*TWO), leaves={"api": replace(LEAF)}),
    replace(snapshot(*TWO), resolve=lambda _: frozenset({Allow(2, "udp", 53, 53)})),
    replace(snapshot(*TWO), outside=lambda app: BothWays(egress=OUT if app == WEB else NOTHING), never_outside=NEVER),
    replace(snapshot(*TWO), outside=lambda app: BothWays(ingress=WITHIN if app == WEB else NOTHING)),
    snapshot(TWO[0], replace(TWO[1], publish=(Publication.parse("8080:80"),))),
    replace(snapshot(*TWO), mutual_tls=SERVED),
    replace(snapshot(*TWO), mutual_tls=SERVED, taken=frozenset({API_OUT})),
    replace(snapshot(*TWO), mutual_tls=SERVED, taken=frozenset({API_IN})),
    replace(snapshot(*TWO), mutual_tls=SERVED, taken=frozenset({API_OUT, API_IN})),
)


@pytest.mark.parametrize("after", LATER)
def test_what_was_known_before_changes_nothing_of_the_outcome(after: Snapshot) -> None:
    for before in LATER:
        known = desired_state(before, facts=FACTS)
        assert desired_state(after, facts=FACTS, before=known) == desired_state(after, facts=FACTS)


def test_a_workload_of_which_nothing_has_changed_is_the_same_object() -> None:
    found = snapshot(*TWO)
    right = frozenset({RIGHT})
    found = replace(found, resolve=lambda _: right)
    before = desired_state(found, facts=FACTS)
    again = desired_state(replace(found, groups={}), facts=FACTS, before=before)
    assert again.workloads[SECOND] is before.workloads[SECOND]


def test_a_workload_has_its_apps_rights_to_the_outside_and_the_outsides_to_it_as_the_very_objects() -> None:
    none: frozenset[Allow] = frozenset()
    found = replace(
        snapshot(*TWO), resolve=lambda _: none, outside=lambda app: BothWays(OUT if app == WEB else NOTHING, WITHIN)
    )
    for before in (None, state(*TWO)):
        made = desired_state(found, facts=FACTS, before=before)
        assert made.workloads[FIRST].egress is OUT
        assert made.workloads[SECOND].egress == frozenset()
        assert made.workloads[FIRST].ingress is made.workloads[SECOND].ingress is WITHIN
        assert desired_state(found, facts=FACTS, before=made).workloads[FIRST] is made.workloads[FIRST]


def test_a_workload_has_what_its_attachment_publishes_with_the_port_that_terminates_tls_by_its_number() -> None:
    published = replace(TWO[1], publish=(Publication.parse("8080:80"), Publication.parse("443:tls")))
    made = state(TWO[0], published).workloads
    assert made[FIRST].publish == ()
    assert [(each.first, each.to) for each in made[SECOND].publish] == [(8080, 80), (443, 61443)]


def test_what_is_never_outside_and_what_is_open_by_default_are_the_hosts() -> None:
    made = desired_state(replace(snapshot(), never_outside=NEVER), facts=replace(FACTS, ingress_allowed=True))
    assert (made.never_outside, made.ingress_allowed, made.egress_allowed) == (NEVER, True, False)
    assert not state().ingress_allowed


def test_a_workload_has_its_apps_tag_rights_and_certificate() -> None:
    api = state(attachment(API, address=SECOND)).workloads[SECOND]
    assert (api.tag, api.allows, api.pin) == (2, frozenset({RIGHT}), Path("/pins/api"))
    assert [each.target_port for each in api.listeners if isinstance(each, TlsListener)] == [8080]


@pytest.mark.parametrize(
    ("mutual_tls", "taken", "kinds"),
    [
        (MutualTls(), (), [TlsListener]),
        (SERVED, (), [TlsListener, OutboundListener, InboundListener]),
        (SERVED, (API_OUT,), [TlsListener, InboundListener]),
        (SERVED, (API_IN,), [TlsListener, OutboundListener]),
        (SERVED, (ContainerPort(SECOND, 61443, Path("/pins/api")),), [TlsListener, OutboundListener, InboundListener]),
    ],
)
def test_a_workload_has_both_ends_of_tunnels_where_no_program_has_their_port(
    mutual_tls: MutualTls, taken: tuple[ContainerPort, ...], kinds: list[type[Listener]]
) -> None:
    found = replace(snapshot(*TWO), mutual_tls=mutual_tls, taken=frozenset(taken))
    made = desired_state(found, facts=FACTS)
    assert ([type(each) for each in made.workloads[SECOND].listeners], made.mutual_tls) == (kinds, mutual_tls)


def test_what_is_on_its_way_out_is_not_there_any_more() -> None:
    assert not state(attachment(API, address=SECOND, phase=Phase.DETACHING)).workloads


def test_what_is_being_attached_is_there_already() -> None:
    assert state(attachment(API, address=SECOND, phase=Phase.ATTACHING)).workloads


def test_an_app_without_a_tag_waits() -> None:
    assert not state(attachment(AppName("acme", "shop", "new"), address=FIRST)).workloads


def test_nothing_is_lost_between_equal_states_or_where_a_right_is_added() -> None:
    before = state(attachment(API, address=SECOND))
    more = replace(before.workloads[SECOND], allows=frozenset({RIGHT, replace(RIGHT, tag=9)}))
    assert lost_rights(before, before) == frozenset()
    assert lost_rights(before, replace(before, workloads={SECOND: more})) == frozenset()


def test_flows_are_checked_where_a_right_or_a_container_is_gone() -> None:
    before = state(attachment(WEB, address=FIRST), attachment(API, address=SECOND))
    fewer = replace(before.workloads[SECOND], allows=frozenset())
    assert lost_rights(before, replace(before, workloads={**before.workloads, SECOND: fewer})) == {SECOND}
    assert lost_rights(before, state(attachment(API, address=SECOND))) == {FIRST}


def test_flows_of_an_app_that_leaves_a_group_are_checked_where_the_group_has_rights() -> None:
    group = Allow(0, "tcp", 80, 80, "acme/*/*")
    before = state(attachment(WEB, address=FIRST), attachment(API, address=SECOND))
    api = replace(before.workloads[SECOND], allows=frozenset({group}))
    before = replace(before, workloads={**before.workloads, SECOND: api}, groups={"acme/*/*": frozenset({1, 2})})
    assert lost_rights(before, replace(before, groups={"acme/*/*": frozenset({1, 2, 3})})) == frozenset()
    assert lost_rights(before, replace(before, groups={"acme/*/*": frozenset({2})})) == {SECOND}


def test_flows_of_an_address_with_another_app_are_checked_everywhere() -> None:
    assert lost_rights(state(attachment(WEB, address=FIRST)), state(attachment(API, address=FIRST))) is None


@pytest.mark.parametrize(
    ("before", "after", "everywhere"),
    [
        (NONE, ACCEPT, True),  # the ports of tunnels are no app's any more
        (NONE, STRICT, True),
        (ACCEPT, STRICT, True),
        (STRICT, ACCEPT, False),
        (STRICT, BACK, False),
        (ACCEPT, BACK, False),
        (BACK, ACCEPT, False),
        (BACK, STRICT, True),
        (BACK, NONE, True),  # nor do rights stand for tunnels any more
        (STRICT, STRICT, False),
        (STRICT, replace(STRICT, exempt=frozenset({IPv4Network("10.255.9.0/24")})), False),
    ],
)
def test_flows_are_checked_everywhere_where_a_mode_of_mutual_tls_lets_less_through(
    before: MutualTls, after: MutualTls, everywhere: bool
) -> None:
    found = state(attachment(WEB, address=FIRST))
    lost = lost_rights(replace(found, mutual_tls=before), replace(found, mutual_tls=after))
    assert lost == (None if everywhere else frozenset())


def test_flows_are_checked_everywhere_where_another_port_terminates_tls() -> None:
    found = state(attachment(WEB, address=FIRST))
    assert found.tls_port == FACTS.tls_port
    assert lost_rights(found, replace(found, tls_port=8443)) is None


def test_flows_to_a_former_peer_are_checked_everywhere() -> None:
    peers = {IPv4Network(f"10.255.{number}.0/24"): IPv4Address(f"10.77.0.{number}") for number in (2, 3)}
    before = replace(state(attachment(WEB, address=FIRST)), peers=peers)
    fewer = dict(list(peers.items())[:1])
    moved = {subnet: IPv4Address("10.77.0.9") for subnet in peers}
    assert lost_rights(before, replace(before, peers=fewer)) is None
    assert lost_rights(before, replace(before, peers=moved)) == frozenset()
    assert lost_rights(replace(before, peers=fewer), before) == frozenset()
