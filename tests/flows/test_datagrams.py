"""Which flows of UDP a container has in use, by how long each has been silent."""

import socket
from collections.abc import Mapping
from ipaddress import IPv4Address

import pytest

from dataplane.flows.conntrack import Flow
from dataplane.flows.datagrams import ASSURED, Lives, flows_in_use

WEB, API, OUTSIDE, RESOLVER = map(IPv4Address, ("10.255.1.2", "10.255.1.3", "192.0.2.7", "169.254.0.2"))
LIVES = Lives(30, 120)


def flow(source: IPv4Address, to: IPv4Address, left: int, *, status: int = 0, protocol: int = socket.IPPROTO_UDP) -> Flow:
    return Flow(protocol, source, 40000, to, 53, to, 53, source, 40000, 0, 1, status, b"", seconds_left=left)


def counted(*flows: Flow) -> Mapping[IPv4Address, int]:
    return flows_in_use(flows, (WEB, API), resolver=RESOLVER, lives=LIVES)


@pytest.mark.parametrize(("status", "left", "count"), [(0, 26, 1), (0, 25, 0), (ASSURED, 116, 1), (ASSURED, 115, 0)])
def test_a_flow_is_over_once_it_was_silent_for_five_seconds(status: int, left: int, count: int) -> None:
    assert counted(flow(OUTSIDE, API, left, status=status)) == {WEB: 0, API: count}


def test_a_flow_counts_at_both_ends_and_where_nothing_answered() -> None:
    assert counted(flow(WEB, API, 29), flow(WEB, OUTSIDE, 30)) == {WEB: 2, API: 1}


def test_questions_for_names_and_other_protocols_do_not_count() -> None:
    assert counted(flow(WEB, RESOLVER, 30), flow(WEB, API, 30, protocol=socket.IPPROTO_ICMP)) == {WEB: 0, API: 0}
