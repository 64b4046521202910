"""A chain's change names only the rules that differ, and reaches the same chain as writing all of it would."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.compile import compile_tables
from dataplane.firewall.backends.restore import MOST_EDITS, edits, restore_text
from dataplane.plan import diff, plan
from dataplane.state import HostState
from host.errors import HostRefused
from tests.testlib.hosts import FIRST, Host, allow, make_host
from tests.testlib.netns import Netns

CHAIN = "CELLNET-0aff0102"
rules = st.lists(st.integers(0, 40).map(lambda port: f"-p tcp -m tcp --dport {port} -j ACCEPT"), max_size=12)


def edited(old: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The chain after iptables-restore has read these lines."""
    found = list(old)
    for line in lines:
        command, chain, rest = line.split(" ", 2)
        assert chain == CHAIN
        if command == "-D":
            found.remove(rest)
        else:
            place, rule = rest.split(" ", 1)
            assert command == "-I"
            assert 1 <= int(place) <= len(found) + 1
            found.insert(int(place) - 1, rule)
    return found


@given(old=rules, wanted=rules)
def test_edits_lead_to_the_wanted_chain(old: list[str], wanted: list[str]) -> None:
    lines = edits(CHAIN, wanted, old=old)
    assert lines is None or edited(old, lines) == wanted


@given(old=rules.map(lambda found: sorted(set(found))), added=rules)
def test_rules_more_take_none_away(old: list[str], added: list[str]) -> None:
    lines = edits(CHAIN, sorted({*old, *added}), old=old)
    assert lines is not None
    assert all(line.startswith("-I ") for line in lines)


def test_a_chain_that_changes_a_lot_is_written_anew() -> None:
    wanted = [f"-p tcp -m tcp --dport {port} -j ACCEPT" for port in range(MOST_EDITS + 1)]
    assert edits(CHAIN, wanted, old=["-j CELLNET-REJECT"]) is None


def text(before: HostState, after: HostState) -> list[str]:
    wanted, actual = compile_tables(after), compile_tables(before)
    made = restore_text(family=4, chains=diff(wanted.chains, actual.chains), jumps=diff(wanted.jumps, actual.jumps))
    return made.splitlines()


@pytest.fixture
def host(netns: Callable[[str], Netns]) -> Iterator[Host]:
    made = make_host(netns, containers=4)
    yield made
    made.kernel.close()


def test_a_container_more_destroys_no_rule(host: Host) -> None:
    """What the kernel has to destroy holds up a program that makes a link."""
    crowd = [host.workload(number, allow(9, "8080")) for number in range(4)]
    few, all_of_them = host.with_workloads(*crowd[:3]), host.with_workloads(*crowd)
    chain = f"CELLNET-{int(FIRST + 3):08x}"
    assert text(few, all_of_them) == [
        "*filter",
        f":{chain} - [0:0]",
        f"-A {chain} -p tcp -m mark --mark 0x9/0xffff -m tcp --dport 8080 -j ACCEPT",
        f"-A {chain} -j CELLNET-REJECT",
        f"-I CELLNET-TO-0 4 -d {FIRST + 3}/32 -g {chain}",
        "COMMIT",
    ]


def test_a_right_less_names_its_rule_alone(host: Host) -> None:
    before = host.with_workloads(host.workload(0, allow(8, "80"), allow(9, "8080")))
    after = host.with_workloads(host.workload(0, allow(9, "8080")))
    assert text(before, after)[1:-1] == [f"-D {CHAIN} -p tcp -m mark --mark 0x8/0xffff -m tcp --dport 80 -j ACCEPT"]


def test_an_edit_of_a_chain_that_another_program_has_changed_is_refused_as_a_whole(host: Host) -> None:
    crowd = [host.workload(0, allow(8, "80"), allow(9, "8080")), host.workload(1)]
    host.become(host.with_workloads(*crowd))
    known = compile_tables(host.state)
    host.netns.run("iptables-nft", "-I", CHAIN, "1", "-j", "ACCEPT")
    host.netns.run("iptables-nft", "-D", CHAIN, "2")
    revoked = compile_tables(host.with_workloads(replace(crowd[0], allows=frozenset({allow(9, "8080")})), crowd[1]))
    with pytest.raises(HostRefused, match="iptables-nft-restore"):
        host.kernel.apply(plan(revoked, known), revoked).result()
    host.become(host.with_workloads(replace(crowd[0], allows=frozenset({allow(9, "8080")})), crowd[1]))
    assert not host.left_to_do(), str(host.left_to_do())
    assert "-j ACCEPT" not in [
        line.removeprefix(f"-A {CHAIN} ") for line in host.netns.run("iptables-nft", "-S", CHAIN).splitlines()
    ]


def test_edits_of_many_kinds_in_one_go_read_back_as_wanted(host: Host) -> None:
    host.become(host.with_workloads(*(host.workload(n, allow(7, "80"), allow(8, "80"), allow(9, "80")) for n in range(3))))
    after = host.with_workloads(
        host.workload(0, allow(1, "80"), allow(8, "80"), allow(8, "81"), allow(9, "80"), allow(10, "80")),
        host.workload(2, allow(9, "80")),
        host.workload(3),
    )
    tables = compile_tables(after)
    host.kernel.apply(plan(tables, compile_tables(host.state)), tables).result()
    host.state = after
    assert not host.left_to_do(), str(host.left_to_do())
