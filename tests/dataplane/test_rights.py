"""Groups are one chain for all rights that share them, long chains are split, and neither changes what is let through."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.compile import compile_tables
from dataplane.firewall.backends import Backend, firewall
from dataplane.firewall.rights import LONGEST, container_chain, group_chain, of_container, of_group
from dataplane.plan import plan
from dataplane.state import Allow, HostState, Workload
from tests.testlib.chain_walk import Packet, walked
from tests.testlib.hosts import EMPTY, FIRST, Host, allow, make_host
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Refused

ORG = "acme/*/*"


@given(tags=st.frozensets(st.integers(1, 3000), max_size=700), asked=st.integers(1, 3000))
def test_a_chain_accepts_the_same_whether_it_is_split_or_not(tags: frozenset[int], asked: int) -> None:
    chains = dict(of_container(FIRST, frozenset(Allow(tag, "tcp", 80, 80) for tag in tags)))
    assert walked(chains, container_chain(FIRST), Packet(asked)) == ("ACCEPT" if asked in tags else "CELLNET-REJECT")
    assert all(len(rules) <= LONGEST + 1 for rules in chains.values())
    group = dict(of_group(ORG, tags))
    assert walked(group, group_chain(ORG), Packet(asked)) == ("ACCEPT" if asked in tags else None)


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
