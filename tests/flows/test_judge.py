"""Which flows the state permits: the same answer as the firewall's rules would give to the first packet."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.flows import judge
from dataplane.flows.conntrack import TIME_WAIT, Flow
from dataplane.flows.judge import HostView
from dataplane.sets.known_names import GRACE, KnownNames
from dataplane.state import INBOUND_PORT, Allow, HostState, MutualTls, OutsideRight, Tunnel, Workload
from tests.testlib.judged import is_forbidden

TCP, UDP, ICMP = 6, 17, 1
WEB, API, DB = (IPv4Address(f"10.255.1.{number}") for number in (2, 3, 4))
NOBODY, OUTSIDE, HOST = IPv4Address("10.255.1.99"), IPv4Address("203.0.113.5"), IPv4Address("192.0.2.1")
OWN = IPv4Address("10.255.1.0")  # of the cell itself, where it has a tunnel


def workload(name: str, address: IPv4Address, tag: int, *allows: Allow) -> Workload:
    return Workload(name, address, tag, Path("/nowhere"), allows=frozenset(allows))


STATE = HostState(
    overlay=IPv4Network("10.255.0.0/16"), subnet=IPv4Network("10.255.1.0/24"), mtu=1450,
    workloads={
        WEB: workload("web", WEB, 1),
        API: workload("api", API, 2, Allow(1, "tcp", 8080, 8080), Allow(1, "tcp", 9000, 9010), Allow(2, "udp", 53, 53)),
        DB: workload("db", DB, 3, Allow(2, "tcp", 5432, 5432)),
    },
)  # fmt: skip


def flow(
    source: IPv4Address, target: IPv4Address, port: int, *, protocol: int = TCP, dialled: IPv4Address | None = None
) -> Flow:
    return Flow(protocol, source, 40000, dialled or target, port, target, port, source, 40000, 0, 1, 0, b"")


@pytest.mark.parametrize("port", [8080, 9000, 9005, 9010])
def test_what_a_policy_allows_is_permitted(port: int) -> None:
    assert not is_forbidden(flow(WEB, API, port), STATE)


@pytest.mark.parametrize(
    ("what", "judged"),
    [
        ("the ports beside a range", flow(WEB, API, 8999)),
        ("the ports beside a range", flow(WEB, API, 9011)),
        ("another protocol", flow(WEB, API, 8080, protocol=UDP)),
        ("the other way", flow(API, WEB, 8080)),
        ("another source", flow(DB, API, 8080)),
        ("another destination", flow(WEB, DB, 8080)),
        ("ICMP", flow(WEB, API, 0, protocol=ICMP)),
        ("a published port, by a container that may not", flow(DB, API, 8080, dialled=HOST)),
        ("itself through a published port", flow(API, API, 8080, dialled=HOST)),
        ("an address that no container has", flow(WEB, NOBODY, 8080)),
        ("a source that no container has", flow(NOBODY, API, 8080)),
        ("the world to an address that no container has", flow(OUTSIDE, NOBODY, 8080, dialled=HOST)),
        ("an address that no container has to the world", flow(NOBODY, OUTSIDE, 443)),
    ],
)
def test_what_no_policy_allows_is_forbidden(what: str, judged: Flow) -> None:
    assert is_forbidden(judged, STATE), what


@pytest.mark.parametrize(
    ("what", "judged"),
    [
        ("egress", flow(WEB, OUTSIDE, 443)),
        ("the host to a container by a published port", flow(HOST, API, 1234, dialled=HOST)),
        ("the host to a container", flow(HOST, API, 22)),
        ("a container to the host", flow(WEB, HOST, 9001)),
        ("neither of ours", flow(HOST, OUTSIDE, 443)),
    ],
)
def test_what_policies_do_not_speak_of_is_left_alone(what: str, judged: Flow) -> None:
    assert not is_forbidden(judged, STATE, own=lambda: (HOST, OWN)), what


def test_instances_of_one_app_need_a_policy_of_their_own() -> None:
    second = workload("api-2", IPv4Address("10.255.1.5"), 2)
    state = replace(STATE, workloads={**STATE.workloads, second.address: second})
    assert is_forbidden(flow(second.address, API, 8080), state)
    assert not is_forbidden(flow(second.address, API, 53, protocol=UDP), state)


ALLOWS = st.builds(
    lambda tag, protocol, first, length: Allow(tag, protocol, first, first + length),
    st.integers(1, 4), st.sampled_from(["tcp", "udp"]), st.integers(1, 30), st.integers(0, 10),
)  # fmt: skip


@given(
    allows=st.frozensets(ALLOWS),
    protocol=st.sampled_from([TCP, UDP]),
    port=st.integers(1, 45),
    source=st.sampled_from([WEB, DB]),
)
def test_a_flow_is_permitted_exactly_if_one_allow_covers_it(
    allows: frozenset[Allow], protocol: int, port: int, source: IPv4Address
) -> None:
    state = replace(STATE, workloads={**STATE.workloads, API: replace(STATE.workloads[API], allows=allows)})
    tag, word = state.workloads[source].tag, judge.PROTOCOLS[protocol]
    covered = any((a.tag, a.protocol) == (tag, word) and port in range(a.first, a.last + 1) for a in allows)
    assert is_forbidden(flow(source, API, port, protocol=protocol), state) is not covered


FAR, FAR_CELL, STRAY = (IPv4Address(address) for address in ("10.255.2.2", "10.255.2.0", "10.255.3.2"))
MANY = replace(
    STATE, tunnel=Tunnel("eth0", HOST, 1, 4789), peers={IPv4Network("10.255.2.0/24"): IPv4Address("192.0.2.2")},
    groups={"org": frozenset({5})},
    workloads={**STATE.workloads, DB: workload("db", DB, 3, Allow(0, "tcp", 5432, 5432, group="org"))},
)  # fmt: skip


@pytest.mark.parametrize(
    ("what", "judged"),
    [
        ("a tag that a policy allows", replace(flow(FAR, API, 8080), mark=1)),
        ("the same beside another program's mark", replace(flow(FAR, API, 8080), mark=0x50001)),
        ("a tag of a group", replace(flow(FAR, DB, 5432), mark=5)),
        ("to another cell", flow(WEB, FAR, 1)),
        ("the cell itself to another", flow(OWN, FAR, 1)),
        ("the cell itself to its own", flow(OWN, API, 22)),
        ("a container to its cell", flow(API, OWN, 9001)),
        ("egress", flow(WEB, OUTSIDE, 443)),
    ],
)
def test_flows_with_other_cells_that_are_permitted(what: str, judged: Flow) -> None:
    assert not is_forbidden(judged, MANY, own=lambda: (HOST, OWN)), what


@pytest.mark.parametrize(
    ("what", "judged"),
    [
        ("no tag", flow(FAR, API, 8080)),
        ("another tag", replace(flow(FAR, API, 8080), mark=3)),
        ("another port", replace(flow(FAR, API, 9011), mark=1)),
        ("another protocol", replace(flow(FAR, API, 8080, protocol=UDP), mark=1)),
        ("a tag without a group", replace(flow(FAR, DB, 5432), mark=2)),
        ("a published port", replace(flow(FAR, DB, 8080, dialled=HOST), mark=1)),
        ("the other cell itself", flow(FAR_CELL, API, 8080)),
        ("from a cell that is no peer", replace(flow(STRAY, API, 8080), mark=1)),
        ("to a cell that is no peer", flow(WEB, STRAY, 8080)),
        ("an address that no container has", replace(flow(FAR, NOBODY, 8080), mark=1)),
        ("from an address of this cell that no container has", replace(flow(NOBODY, FAR, 8080), mark=1)),
        ("through this cell", replace(flow(FAR, FAR_CELL, 8080), mark=1)),
        ("to the host", replace(flow(FAR, HOST, 22), mark=1)),
        ("to the cell itself", replace(flow(FAR, OWN, 22), mark=1)),
        ("to the world", replace(flow(FAR, OUTSIDE, 443), mark=1)),
    ],
)
def test_flows_with_other_cells_that_are_forbidden(what: str, judged: Flow) -> None:
    assert is_forbidden(judged, MANY), what


def test_a_flow_of_a_departed_container_is_permitted_only_to_a_successor_with_the_same_tag() -> None:
    judged = replace(flow(FAR, API, 8080), mark=1)
    assert [is_forbidden(judged, MANY, departed={FAR: tag}) for tag in (0, 1, 2)] == [True, False, True]
    assert not is_forbidden(judged, MANY, departed={FAR_CELL: 0})


def test_without_a_tunnel_the_rest_of_the_overlay_has_no_owner() -> None:
    state = replace(MANY, tunnel=None)
    for judged in (replace(flow(FAR, API, 8080), mark=1), flow(WEB, FAR, 1), flow(OWN, API, 22)):
        assert is_forbidden(judged, state)


def test_many_flows_are_judged_as_each_alone() -> None:
    flows = [flow(source, target, port) for source in (WEB, API, DB, NOBODY, HOST) for target in (WEB, API, DB, NOBODY, OUTSIDE)
             for port in (8080, 5432)]  # fmt: skip
    assert judge.forbidden(flows, STATE) == tuple(each for each in flows if is_forbidden(each, STATE))


def test_what_was_let_out_is_forbidden_once_nothing_may_leave() -> None:
    out = replace(flow(WEB, OUTSIDE, 443), status=judge.SOURCE_TRANSLATED)
    assert is_forbidden(out, STATE)
    assert not is_forbidden(out, replace(STATE, egress_allowed=True))


def test_a_flow_to_a_name_lives_as_long_as_the_name_is_known_to_stand_for_its_address() -> None:
    """Which is a while longer than the kernel lets new ones there."""
    now = [0.0]
    known = KnownNames(clock=lambda: now[0])
    by_name = replace(STATE.workloads[WEB], egress=frozenset({OutsideRight("tcp", 443, 443, names=("*.example.com",))}))
    state = replace(STATE, workloads={**STATE.workloads, WEB: by_name})
    out, beside = (replace(flow(WEB, OUTSIDE, port), status=judge.SOURCE_TRANSLATED) for port in (443, 80))
    assert judge.forbidden([out], state, view=HostView(known=known)) == (out,), "nothing has asked"
    known.remember("example.com", [OUTSIDE], seconds=60)
    assert judge.forbidden([out], state, view=HostView(known=known)) == (out,), "for another name"
    known.remember("api.example.com", [OUTSIDE], seconds=60)
    for now[0] in (0.0, 60.0 + GRACE):
        known.forget_old()
        assert judge.forbidden([out, beside], state, view=HostView(known=known)) == (beside,)
    assert judge.forbidden([out], replace(state, never_outside=(IPv4Network(OUTSIDE),)), view=HostView(known=known)) == (out,)
    now[0] += 1
    known.forget_old()
    assert judge.forbidden([out], state, view=HostView(known=known)) == (out,)


def test_what_containers_have_flows_to_outside_is_what_lives_there() -> None:
    out = replace(flow(WEB, OUTSIDE, 443), status=judge.SOURCE_TRANSLATED)
    others = (flow(WEB, API, 8080), replace(out, tcp_state=TIME_WAIT), replace(flow(HOST, OUTSIDE, 443), status=out.status))
    assert judge.reached_outside([out, *others], STATE) == {OUTSIDE}
    assert judge.reached_outside(others, STATE) == frozenset()


def come_in(port: int, *, source: IPv4Address = OUTSIDE, protocol: int = TCP) -> Flow:
    """By a published port."""
    return replace(flow(source, API, port, protocol=protocol, dialled=HOST), status=judge.DESTINATION_TRANSLATED)


def test_what_comes_in_is_judged_by_the_rights_of_the_outside() -> None:
    right = OutsideRight("tcp", 80, 89, (IPv4Network("203.0.113.0/29"),))
    state = replace(STATE, workloads={**STATE.workloads, API: replace(STATE.workloads[API], ingress=frozenset({right}))})
    beyond = IPv4Address("203.0.113.8")
    for judged, passes in (
        (come_in(80), True), (come_in(89), True), (come_in(90), False), (come_in(80, protocol=UDP), False),
        (come_in(80, source=beyond), False), (flow(OUTSIDE, API, 80), False),
    ):  # fmt: skip
        assert is_forbidden(judged, state) is not passes, judged
        assert is_forbidden(judged, STATE), "without a right"
    assert not is_forbidden(come_in(90, source=beyond), replace(STATE, ingress_allowed=True))
    assert is_forbidden(flow(OUTSIDE, API, 80), replace(state, ingress_allowed=True)), "straight into the overlay"


def test_the_ends_of_tunnels_have_no_flow_with_the_outside() -> None:
    open_ = replace(STATE, ingress_allowed=True)
    assert not is_forbidden(come_in(INBOUND_PORT), open_)
    assert is_forbidden(come_in(INBOUND_PORT), replace(open_, mutual_tls=MutualTls(served=True)))
