"""After which changes flows out of the overlay are looked for, and whose."""

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from agent.loop.revocation import lost_rights, lost_ways_out
from dataplane.flows.places import NO_PLACE
from dataplane.state import HostState, OutsideRight, Workload
from tests.testlib.hosts import EMPTY, FIRST

NEAR, FAR = IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.0/24")
ONE, BOTH = (frozenset({OutsideRight("tcp", 443, 443, networks)}) for networks in ((NEAR,), (NEAR, FAR)))
MORE = ONE | {OutsideRight("udp", 53, 53, (FAR,))}


def state(*rights: frozenset[OutsideRight]) -> HostState:
    placed = (Workload(f"c{at}", FIRST + at, at + 1, Path("/p"), egress=each) for at, each in enumerate(rights))
    return replace(EMPTY, workloads={each.address: each for each in placed})


def test_whose_rights_are_fewer_is_looked_for_and_no_other() -> None:
    assert lost_ways_out(state(BOTH, MORE, ONE), state(ONE, ONE, MORE)) == {FIRST, FIRST + 1}
    assert lost_ways_out(state(ONE), state(frozenset())) == {FIRST}
    assert lost_ways_out(state(ONE, BOTH), state(ONE, BOTH)) == NO_PLACE
    assert lost_rights(state(BOTH, MORE), state(ONE, ONE)) == NO_PLACE, "nothing that they answer"


def test_what_becomes_never_outside_is_looked_for_everywhere_where_anything_may_leave() -> None:
    before, closed = state(ONE), replace(state(ONE), never_outside=(NEAR,))
    assert lost_rights(before, closed) is None
    assert lost_rights(closed, before) == NO_PLACE
    assert lost_rights(state(frozenset()), replace(state(frozenset()), never_outside=(NEAR,))) == NO_PLACE
