"""Groups are one chain for all rights that share them, long chains are split, and neither changes what is let through."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.compile import compile_tables
from dataplane.firewall.backends.backends import Backend, firewall
from dataplane.firewall.rights import AUDIT, LONGEST, container_chain, group_chain, of_container, of_group
from dataplane.netlink.notes import NotedPacket, Notes
from dataplane.plan import plan
from dataplane.state import Allow, HostState, Workload
from host.namespace import run_in
from tests.testlib.chain_walk import Packet, walked
from tests.testlib.hosts import EMPTY, FIRST, Host, allow, make_host
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Refused
from tests.testlib.patience import eventually

ORG = "acme/*/*"


@given(tags=st.frozensets(st.integers(1, 3000), max_size=700), asked=st.integers(1, 3000))
def test_a_chain_accepts_the_same_whether_it_is_split_or_not(tags: frozenset[int], asked: int) -> None:
    chains = dict(of_container(FIRST, frozenset(Allow(tag, "tcp", 80, 80) for tag in tags)))
    assert walked(chains, container_chain(FIRST), Packet(asked)) == ("ACCEPT" if asked in tags else "CELLNET-REJECT")
    assert all(len(rules) <= LONGEST + 1 for rules in chains.values())
    group = dict(of_group(ORG, tags))
    assert walked(group, group_chain(ORG), Packet(asked)) == ("ACCEPT" if asked in tags else None)


@given(
    rights=st.frozensets(st.tuples(st.integers(1, 600), st.booleans(), st.booleans()), max_size=700),
    members=st.frozensets(st.integers(1, 600), max_size=20),
    asked=st.integers(1, 600),
)
def test_an_audit_is_asked_only_where_no_right_lets_it_pass(
    rights: frozenset[tuple[int, bool, bool]], members: frozenset[int], asked: int
) -> None:
    allows = frozenset(
        Allow(0 if grouped else tag, "tcp", 80, 80, ORG if grouped else "", audit) for tag, grouped, audit in rights
    )
    chains = {**of_container(FIRST, allows), **of_group(ORG, members), **of_group(ORG, members, audit=True)}
    passing = {each.audit for each in allows if asked == each.tag or (each.group and asked in members)}
    expected = "ACCEPT" if False in passing else AUDIT if passing else "CELLNET-REJECT"
    assert walked(chains, container_chain(FIRST), Packet(asked)) == expected


@given(tags=st.frozensets(st.integers(1, 600), max_size=400))
def test_an_audit_adds_nothing_to_the_way_of_what_a_right_lets_pass(tags: frozenset[int]) -> None:
    rights = frozenset(Allow(tag, "tcp", 80, 80) for tag in tags)
    without = of_container(FIRST, rights)
    audited = of_container(FIRST, rights | {Allow(7, "tcp", 90, 90, audit=True), Allow(0, "tcp", 90, 90, ORG, audit=True)})
    for name, rules in without.items():
        assert audited[name][: len(rules) - 1] == rules[:-1]


def test_a_member_more_changes_the_groups_chain_and_no_containers() -> None:
    right = frozenset({Allow(0, "tcp", 8080, 8080, ORG)})

    def state(*tags: int) -> HostState:
        addresses = [FIRST + number for number in range(50)]
        workloads = {each: Workload(str(each), each, 1, Path("/p"), allows=right) for each in addresses}
        return replace(EMPTY, workloads=workloads, groups={ORG: frozenset(tags)})

    changes = plan(compile_tables(state(1, 2, 3)), compile_tables(state(1, 2)))
    assert [key.chain for key in changes.chains.put] == [group_chain(ORG)]
    assert changes.count() == 1


@pytest.fixture(params=Backend)
def host(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[Host]:
    made = make_host(netns, containers=3, firewall=firewall(request.param))
    yield made
    made.kernel.close()


def standpoint(host: Host, number: int) -> Node:
    return Node(host.containers[number].path, address=IPv4Address(FIRST + number))


def test_a_group_lets_its_members_in_and_no_others(host: Host) -> None:
    api = host.workload(0, Allow(0, "tcp", 8080, 8080, ORG))
    state = host.with_workloads(api, host.workload(1), host.workload(2))
    host.become(replace(state, groups={ORG: frozenset({2})}))
    assert not host.left_to_do(), str(host.left_to_do())
    target, member, stranger = (standpoint(host, number) for number in range(3))
    listener = target.listen(8080)
    assert member.connect(target, 8080) is Connected
    assert stranger.connect(target, 8080) is Refused
    host.become(replace(state, groups={ORG: frozenset({3})}))
    assert member.connect(target, 8080) is Refused
    assert stranger.connect(target, 8080) is Connected
    listener.close()


def test_an_audit_lets_in_and_notes_the_first_packet_of_each_flow_and_nothing_that_a_right_lets_in(host: Host) -> None:
    api = host.workload(0, allow(2, "8080"), Allow(2, "tcp", 1, 65535, audit=True), Allow(0, "udp", 53, 53, ORG, audit=True))
    state = host.with_workloads(api, host.workload(1), host.workload(2))
    host.become(replace(state, groups={ORG: frozenset({2})}))
    assert not host.left_to_do(), str(host.left_to_do())
    target, caller, stranger = (standpoint(host, number) for number in range(3))
    notes = run_in(host.netns.path, Notes)
    listeners = [target.listen(8080), target.listen(8081)]
    sink = target.datagrams(53)
    asker = caller.datagrams()
    for _ in range(5):
        asker.sendto(b"x", (str(target.address), 53))
    assert [caller.connect(target, port) for port in (8080, 8081, 8082)] == [Connected, Connected, Refused]
    assert stranger.connect(target, 8081) is Refused
    sink.settimeout(5)
    assert sink.recv(10) == b"x"
    found: list[NotedPacket] = []

    def told() -> bool:
        found.extend(notes.take(most=16)[0])
        return sorted((str(each.note), each.tag, each.port) for each in found) == [
            ("audit", 2, 53), ("audit", 2, 8081), ("audit", 2, 8082), ("refused", 3, 8081),
        ]  # fmt: skip

    eventually(told)
    notes.close()
    for each in (*listeners, sink, asker):
        each.close()


def test_a_long_list_of_rights_works_and_reads_back(host: Host) -> None:
    api = host.workload(0, *(allow(tag, "8080") for tag in range(2, 1000)))
    tags = frozenset(range(2, 1000))
    grouped = host.workload(1, Allow(0, "udp", 53, 53, ORG))
    host.become(replace(host.with_workloads(api, grouped, host.workload(2, tag=999)), groups={ORG: tags}))
    assert not host.left_to_do(), str(host.left_to_do())
    listener = standpoint(host, 0).listen(8080)
    assert standpoint(host, 2).connect(standpoint(host, 0), 8080) is Connected
    host.become(replace(host.with_workloads(api, grouped, host.workload(2, tag=1001)), groups={ORG: tags}))
    assert standpoint(host, 2).connect(standpoint(host, 0), 8080) is Refused
    listener.close()
