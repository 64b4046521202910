"""A container's end that is as it was before is the same object; tables made with that in mind equal those made anew."""

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dataplane.compile import compile_tables
from dataplane.state import HostState, Leaf, Listener, MutualTls, OutboundListener, TlsListener, Workload
from dataplane.tables import Tables
from tests.testlib.hosts import EMPTY, FIRST
from tests.testlib.oracle import Mode
from tests.testlib.tunnels.modes import BACK, MODES

SECOND = FIRST + 1
LEAF = Leaf(b"", b"")
TLS, OUTBOUND = TlsListener(61443, LEAF, 8080), OutboundListener(LEAF, 60)
PINS = tuple(map(Path, ("/one", "/other")))
LISTENERS: tuple[tuple[Listener, ...], ...] = ((), (TLS,), (TLS, OUTBOUND))
EXEMPT = MutualTls(served=True, redirected=True, exempt=frozenset({IPv4Network("10.255.9.0/24")}))

workloads = st.builds(
    lambda pin, interface, listeners: Workload("web", FIRST, 1, pin, interface, listeners=listeners),
    st.sampled_from(PINS),
    st.sampled_from(["eth0", "eth1"]),
    st.sampled_from(LISTENERS),
)
states = st.builds(
    lambda web, mode, mtu, port: replace(
        EMPTY, workloads={FIRST: web, SECOND: replace(web, address=SECOND)}, mutual_tls=mode, mtu=mtu, tls_port=port
    ),
    workloads,
    st.sampled_from([*MODES.values(), BACK, EXEMPT]),
    st.sampled_from([1400, 1450]),
    st.sampled_from([443, 61443]),
)


@given(st.lists(states, min_size=2, max_size=5))
def test_tables_that_follow_others_equal_those_that_follow_none(walk: list[HostState]) -> None:
    before: Tables | None = None
    for state in walk:
        fresh = compile_tables(state)
        before = compile_tables(state, before=before)
        assert before == fresh


def test_only_the_interior_of_a_container_that_has_changed_is_another_object() -> None:
    web = Workload("web", FIRST, 1, PINS[0], listeners=(TLS, OUTBOUND))
    state = replace(EMPTY, workloads={FIRST: web, SECOND: replace(web, address=SECOND)}, mutual_tls=MODES[Mode.STRICT])
    before = compile_tables(state)
    renewed = replace(web, listeners=(replace(TLS, leaf=Leaf(b"new", b"")), OUTBOUND))
    moved = replace(state.workloads[SECOND], interface="eth1")
    after = compile_tables(replace(state, workloads={FIRST: renewed, SECOND: moved}), before=before)
    assert [each for each in before.interiors if after.interiors[each] is not before.interiors[each]] == [SECOND]
