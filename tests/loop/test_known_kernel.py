"""What turns, repairs, looks and broken containers do to what is known of the kernel."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from agent.loop.known_kernel import Applied, KnownKernel
from dataplane.apply import Outcome
from dataplane.compile import compile_tables
from dataplane.state import HostState, Workload
from dataplane.tables import Tables
from host.errors import HostRefused

SUBNET = IPv4Network("10.255.1.0/24")
WEB, API = SUBNET[2], SUBNET[3]
WELL, NO_ROOM = Outcome({}), HostRefused("no room")


def state(*addresses: IPv4Address) -> HostState:
    workloads = {each: Workload(str(each), each, 1, Path("/pins") / str(each)) for each in addresses}
    return HostState(overlay=IPv4Network("10.255.0.0/16"), subnet=SUBNET, mtu=1450, workloads=workloads)


def applied(*addresses: IPv4Address) -> Applied:
    wanted = state(*addresses)
    tables = compile_tables(wanted)
    return Applied(wanted, tables, tables)


def after(*addresses: IPv4Address, outcome: Outcome = WELL, known: KnownKernel | None = None) -> KnownKernel:
    """After a turn that wanted these containers."""
    return (known or KnownKernel().read(Tables())).after_turn(applied(*addresses), outcome)


def broken(*addresses: IPv4Address) -> Outcome:
    return Outcome(dict.fromkeys(addresses, NO_ROOM))


def without_rules(known: KnownKernel) -> Tables:
    """What a look finds after another program has removed all our chains."""
    assert known.applied is not None
    return replace(known.applied.tables, chains={}, jumps={})


def without_link(known: KnownKernel, address: IPv4Address) -> Tables:
    """What a look finds after root in a container has deleted its link."""
    assert known.applied is not None
    tables = known.applied.tables
    return replace(
        tables,
        veths={name: each for name, each in tables.veths.items() if each.address != address},
        interiors={each: inside for each, inside in tables.interiors.items() if each != address},
    )


def test_before_the_first_turn_nothing_is_known_and_all_must_be_read() -> None:
    known = KnownKernel()
    assert (known.state, known.actual, known.intact_interiors, known.is_disturbed) == (None, None, {}, False)
    assert known.needs_turn(Tables())


def test_a_good_turn_leaves_the_kernel_as_it_was_wanted() -> None:
    known = after(WEB)
    assert known.applied is not None
    assert known.actual is known.applied.tables
    assert not known.is_disturbed
    assert not known.needs_turn(known.applied.tables)
    assert known.intact_interiors.keys() == {WEB}


def test_a_state_that_has_not_changed_is_the_known_object_with_its_tables() -> None:
    known = after(WEB)
    assert known.applied is not None
    found = known.state_and_tables(state(WEB))
    assert found is not None
    assert found[0] is known.applied.state
    assert found[1] is known.applied.compiled
    assert known.state_and_tables(state(WEB, API)) is None


def test_names_alone_change_nothing_of_the_kernel() -> None:
    known, named = after(WEB), replace(state(WEB), names={WEB: ("web.cell.internal",)})
    assert known.applied is not None
    found = known.state_and_tables(named)
    assert found is not None
    assert found[0] == named
    assert found[0].workloads is known.applied.state.workloads
    assert found[1] is known.applied.compiled
    assert known.state_and_tables(replace(named, workloads={})) is None


def test_a_failed_turn_leaves_nothing_but_what_was_true_before() -> None:
    known = after(WEB, API, outcome=broken(API), known=after(WEB, API)).after_failure()
    assert known.actual is None
    assert known.has_failed
    assert known.state == state(WEB, API)
    assert known.broken == {}
    assert known.intact_interiors == {}, "whatever it got to, every container is looked into"


def test_what_a_failed_turn_has_half_done_is_no_repair() -> None:
    known = after(WEB).after_failure()
    assert not known.read(without_rules(known)).is_disturbed


def test_a_turn_after_a_failed_one_is_as_any_other() -> None:
    assert after(WEB, known=after().after_failure().read(Tables())) == after(WEB)


def test_a_look_that_finds_a_change_makes_a_turn_and_a_repair() -> None:
    known = after(WEB)
    found = without_rules(known)
    assert known.needs_turn(found)
    assert known.read(found).is_disturbed
    assert after(WEB, known=known.read(found)) == known


def test_a_look_that_failed_leaves_the_read_to_the_next_turn() -> None:
    known = after(WEB).read(None)
    assert known.actual is None
    assert known.intact_interiors.keys() == {WEB}
    assert known.state == state(WEB)


def test_a_new_container_that_is_broken_must_be_read() -> None:
    known = after(WEB, API, outcome=broken(API), known=after(WEB))
    assert known.actual is None
    assert known.broken == {API: NO_ROOM}


def test_a_container_that_was_in_place_before_costs_the_others_no_read() -> None:
    known = after(WEB, API, outcome=broken(API), known=after(WEB, API))
    assert known.applied is not None
    assert known.actual is known.applied.tables


def test_a_broken_container_stays_so_until_a_read_retries_it() -> None:
    known = after(WEB, API, outcome=broken(API), known=after(WEB, API))
    later = after(WEB, API, known=known)
    assert later.broken == {API: NO_ROOM}, "it was not tried"
    assert later.needs_turn(later.actual or Tables()), "every look retries it"
    assert after(WEB, API, known=later.read(without_link(later, API))).broken == {}
    assert after(WEB, API, outcome=broken(API), known=later.read(without_link(later, API))).broken == {API: NO_ROOM}


def test_a_broken_container_that_is_detached_is_forgotten() -> None:
    known = after(WEB, API, outcome=broken(API), known=after(WEB, API))
    assert after(WEB, known=known).broken == {}


def test_what_root_does_to_a_broken_container_is_no_repair_of_ours() -> None:
    known = after(WEB, API, outcome=broken(API), known=after(WEB, API))
    found = without_link(known, API)
    assert not known.read(found).is_disturbed
    assert known.read(replace(found, chains={})).is_disturbed, "the rest counts"


def test_an_overlay_that_failed_is_retried_by_looks_too() -> None:
    why = HostRefused("no tunnel")
    known = after(WEB, outcome=Outcome({}, overlay=why))
    assert known.overlay is why
    assert after(WEB, known=known).overlay is why, "it was not tried"
    assert known.applied is not None
    assert known.needs_turn(known.applied.tables)
    assert after(WEB, known=known.read(known.applied.tables)).overlay is None


def test_jumps_that_were_left_to_another_program_are_no_repair() -> None:
    wanted = applied(WEB)
    moved = replace(wanted.compiled, jumps=dict.fromkeys(wanted.compiled.jumps, (1,)))
    known = KnownKernel().read(Tables()).after_turn(replace(wanted, tables=moved), WELL)
    assert not known.read(replace(moved)).is_disturbed
    found = known.state_and_tables(state(WEB))
    assert found is not None
    assert found[1] is wanted.compiled, "they are wanted where they were all the same"
