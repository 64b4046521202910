"""After which changes flows from outside are looked for, and whose."""

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from agent.loop.revocation import lost_rights
from dataplane.flows.places import NO_PLACE
from dataplane.state import HostState, OutsideRight, Workload
from tests.testlib.hosts import EMPTY, FIRST

NEAR, FAR = IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.0/24")
ONE, BOTH = (frozenset({OutsideRight("tcp", 443, 443, networks)}) for networks in ((NEAR,), (NEAR, FAR)))
MORE = ONE | {OutsideRight("udp", 53, 53, (FAR,))}


def state(*rights: frozenset[OutsideRight]) -> HostState:
    placed = (Workload(f"c{at}", FIRST + at, at + 1, Path("/p"), ingress=each) for at, each in enumerate(rights))
    return replace(EMPTY, workloads={each.address: each for each in placed})


def test_what_may_be_called_by_fewer_is_looked_at_and_no_other() -> None:
    assert lost_rights(state(BOTH, MORE, ONE), state(ONE, ONE, MORE)) == {FIRST, FIRST + 1}
    assert lost_rights(state(ONE), state(frozenset())) == {FIRST}
    assert lost_rights(state(ONE, frozenset()), state(MORE, ONE)) == NO_PLACE
    assert lost_rights(state(ONE, ONE), state(ONE)) == {FIRST + 1}, "it has gone"
