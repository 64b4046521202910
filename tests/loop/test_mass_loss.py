"""What would take much away at once waits until it is read a second time; what a request asks for does not."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from agent.loop.mass_loss import WAIT, MassLossGuard
from dataplane.firewall.ruleset import chains
from dataplane.state import Allow, HostState, MutualTls, Workload

SUBNET = IPv4Network("10.255.1.0/24")
PEERS = {IPv4Network("10.255.2.0/24"): IPv4Address("10.77.0.2")}


def workload(number: int) -> Workload:
    return Workload(name=f"app-{number}", address=SUBNET[number], tag=number, pin=Path("/pins") / str(number))


def state(*numbers: int, peers: bool = True) -> HostState:
    workloads = {SUBNET[number]: workload(number) for number in numbers}
    held = PEERS if peers else {}
    return HostState(overlay=IPv4Network("10.255.0.0/16"), subnet=SUBNET, mtu=1450, workloads=workloads, peers=held)


FOUR = state(2, 3, 4, 5)


def test_the_first_state_of_all_is_believed() -> None:
    assert MassLossGuard().guarded(state(peers=False), before=None, leaving=(), now=0.0) == state(peers=False)


def test_most_containers_go_only_when_a_second_state_agrees() -> None:
    guard, few = MassLossGuard(), state(2)
    assert guard.guarded(few, before=FOUR, leaving=(), now=0.0) == FOUR
    assert "3 of 4 containers" in str(guard.problem)
    assert guard.wait(now=0.25) == WAIT - 0.25
    assert guard.guarded(few, before=FOUR, leaving=(), now=WAIT / 2) == FOUR
    assert guard.guarded(few, before=FOUR, leaving=(), now=WAIT) == few
    assert guard.problem is None
    assert guard.wait(now=WAIT) is None


def test_all_peers_go_only_when_a_second_state_agrees() -> None:
    guard, none = MassLossGuard(), state(2, 3, 4, 5, peers=False)
    assert guard.guarded(none, before=FOUR, leaving=(), now=0.0) == FOUR
    assert "all 1 peers" in str(guard.problem)
    assert guard.guarded(none, before=FOUR, leaving=(), now=WAIT) == none


def test_what_comes_back_in_time_was_never_gone() -> None:
    guard = MassLossGuard()
    guard.guarded(state(), before=FOUR, leaving=(), now=0.0)
    assert guard.guarded(FOUR, before=FOUR, leaving=(), now=0.5) == FOUR
    assert guard.problem is None
    assert guard.guarded(state(), before=FOUR, leaving=(), now=WAIT) == FOUR, "the first time does not count any more"


def test_another_loss_begins_to_wait_anew() -> None:
    guard = MassLossGuard()
    guard.guarded(state(2), before=FOUR, leaving=(), now=0.0)
    assert guard.guarded(state(3), before=FOUR, leaving=(), now=WAIT).workloads.keys() == FOUR.workloads.keys()


def test_a_detached_container_goes_at_once() -> None:
    leaving = ("app-2", "app-3", "app-4", "app-5")
    assert MassLossGuard().guarded(state(), before=state(2, 3, 4, 5), leaving=leaving, now=0.0).workloads == {}
    one = MassLossGuard().guarded(state(2), before=FOUR, leaving=("app-3", "app-4", "app-5"), now=0.0)
    assert one == state(2)


def test_a_container_detached_while_others_are_doubted_goes_at_once() -> None:
    guard = MassLossGuard()
    kept = guard.guarded(state(), before=FOUR, leaving=("app-2",), now=0.0)
    assert {each.name for each in kept.workloads.values()} == {"app-3", "app-4", "app-5"}


def test_a_few_containers_go_at_once() -> None:
    assert MassLossGuard().guarded(state(2, 3), before=FOUR, leaving=(), now=0.0) == state(2, 3)


def test_what_is_new_and_what_has_changed_takes_effect_though_others_are_doubted() -> None:
    changed = replace(workload(2), tag=9)
    asked = replace(state(7), workloads={SUBNET[2]: changed, SUBNET[7]: workload(7)})
    guarded = MassLossGuard().guarded(asked, before=FOUR, leaving=(), now=0.0)
    assert guarded.workloads[SUBNET[2]] == changed
    assert guarded.workloads.keys() == {SUBNET[number] for number in (2, 3, 4, 5, 7)}


def test_what_comes_and_goes_beside_a_loss_does_not_put_off_its_second_look() -> None:
    guard = MassLossGuard()
    for tenth in range(10):
        guarded = guard.guarded(state(2, 7 + tenth), before=FOUR, leaving=(), now=WAIT * tenth / 10)
        assert SUBNET[3] in guarded.workloads
    assert guard.guarded(state(2, 17), before=FOUR, leaving=(), now=WAIT) == state(2, 17)
    guard.guarded(state(2), before=FOUR, leaving=(), now=0.0)
    assert guard.guarded(state(2), before=FOUR, leaving=("app-3",), now=WAIT) == state(2)


def test_a_kept_container_keeps_the_groups_of_its_rights() -> None:
    shared = frozenset({Allow(0, "tcp", 8080, 8080, group="org-acme")})
    before = replace(FOUR, workloads={each: replace(held, allows=shared) for each, held in FOUR.workloads.items()})
    before = replace(before, groups={"org-acme": frozenset({1, 2})})
    guarded = MassLossGuard().guarded(state(), before=before, leaving=(), now=0.0)
    assert guarded.groups == before.groups
    assert chains(guarded) == chains(before), "a jump to a chain that is not there makes the kernel refuse them all"
    fewer = replace(state(), groups={"org-acme": frozenset({1})})
    assert MassLossGuard().guarded(fewer, before=before, leaving=(), now=0.0).groups == fewer.groups


def test_peers_that_come_back_one_by_one_were_never_gone() -> None:
    """The first of them does not make the absence of the others believable."""
    guard = MassLossGuard()
    three = {IPv4Network(f"10.255.{number}.0/24"): IPv4Address(f"10.77.0.{number}") for number in (2, 3, 4)}
    before = replace(FOUR, peers=three)
    for count in range(3):
        back = replace(FOUR, peers=dict(list(three.items())[:count]))
        assert guard.guarded(back, before=before, leaving=(), now=0.9 * count) == before
    assert "1 of 3 peers" in str(guard.problem)
    assert guard.guarded(before, before=before, leaving=(), now=2.0) == before
    assert guard.problem is None
    two = replace(FOUR, peers=dict(list(three.items())[:2]))
    assert guard.guarded(two, before=before, leaving=(), now=3.0) == two, "one of three may go at any time"


def test_a_peer_that_is_kept_is_still_one_that_takes_no_tunnels() -> None:
    """Its containers have nothing that a tunnel could lead to."""
    before = replace(FOUR, mutual_tls=MutualTls(served=True, redirected=True, exempt=frozenset(PEERS)))
    wanted = replace(state(2, 3, 4, 5, peers=False), mutual_tls=replace(before.mutual_tls, exempt=frozenset()))
    assert MassLossGuard().guarded(wanted, before=before, leaving=(), now=0.0) == before


def test_a_peer_that_is_kept_is_sent_nothing_plain_once_only_tunnels_are_allowed() -> None:
    before = replace(FOUR, mutual_tls=MutualTls(served=True, redirected=True, exempt=frozenset(PEERS)))
    strict = MutualTls(served=True, redirected=True, plain=False)
    wanted = replace(state(2, 3, 4, 5, peers=False), mutual_tls=strict)
    assert MassLossGuard().guarded(wanted, before=before, leaving=(), now=0.0).mutual_tls == strict


def test_names_of_what_is_doubted_stay_and_those_of_what_was_asked_to_go_do_not() -> None:
    far = IPv4Address("10.255.2.7")
    names = {**{address: (f"{each.name}.internal",) for address, each in FOUR.workloads.items()}, far: ("far.internal",)}
    before, few = replace(FOUR, names=names), replace(state(2, peers=False), names={SUBNET[2]: ("new.internal",)})
    guard = MassLossGuard()
    held = guard.guarded(few, before=before, leaving=("app-5",), now=0.0).names
    assert held == {
        SUBNET[2]: ("new.internal",), SUBNET[3]: ("app-3.internal",), SUBNET[4]: ("app-4.internal",), far: ("far.internal",)
    }  # fmt: skip
    assert guard.guarded(few, before=before, leaving=("app-5",), now=WAIT).names == few.names
