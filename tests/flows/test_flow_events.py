"""Of the kernel's events those pass that a follower is told of: a flow's beginning, and its end once, of containers alone."""

import os
import resource
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network

import pytest

from dataplane.flows import flow_table
from dataplane.flows.event_filter import SAMPLE, EventFilter, StreamFilter
from dataplane.flows.flow_events import Change, FlowEvent, FlowEvents
from host.errors import HostRefused
from host.namespace import run_in
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually

HERE, THERE, RESOLVER, HOST = (
    IPv4Address(each) for each in ("10.255.1.2", "10.255.1.3", "10.255.0.1", "192.0.2.1")
)  # fmt: skip
PASSES = EventFilter(IPv4Network("10.255.1.0/24"), RESOLVER)
MANY = 20 * SAMPLE


class Host:
    """Has all addresses itself, and follows connections."""

    def __init__(self, netns: Netns) -> None:
        self.netns = netns
        for address in (HERE, THERE, RESOLVER, HOST):
            netns.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        netns.run("iptables", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")

    def hears(self, passes: EventFilter | StreamFilter = PASSES, *, room: int = 1 << 20) -> FlowEvents:
        made = run_in(self.netns.path, partial(FlowEvents, passes, room=room))
        self.netns.before_close(made.close)
        return made

    def call(self, source: IPv4Address, to: IPv4Address) -> None:
        """A TCP connection that both ends close."""
        with self._socket(socket.SOCK_STREAM) as server, self._socket(socket.SOCK_STREAM) as client:
            server.bind((str(to), 8080))
            server.listen()
            client.bind((str(source), 0))
            client.connect((str(to), 8080))
            server.accept()[0].close()
            assert client.recv(1) == b""

    def send(self, source: IPv4Address, to: IPv4Address, *, times: int = 1) -> None:
        """So many flows of UDP."""
        for number in range(times):
            with self._socket(socket.SOCK_DGRAM) as sender:
                sender.bind((str(source), 20_000 + number))
                sender.sendto(b"?", (str(to), 53))

    def _socket(self, kind: socket.SocketKind) -> socket.socket:
        return run_in(self.netns.path, partial(socket.socket, socket.AF_INET, kind))


@pytest.fixture
def host(netns: Callable[[str], Netns]) -> Host:
    return Host(netns("events"))


def heard(events: FlowEvents, *, most: int = 10_000) -> list[FlowEvent]:
    return list(events.take(most=most)[0])


def changes(events: FlowEvents, host: Host) -> list[Change]:
    """What is heard of one connection until the kernel has forgotten it."""
    host.netns.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1")
    host.call(HERE, THERE)
    found: list[FlowEvent] = []

    def is_over() -> bool:
        found.extend(heard(events))
        return "dport=8080" not in host.netns.run("conntrack", "-L", "-p", "tcp")

    eventually(is_over)
    host.send(HERE, THERE)
    eventually(lambda: found.extend(heard(events)) or found[-1].counted.flow.protocol == socket.IPPROTO_UDP)  # type: ignore[func-returns-value]
    assert len({each.counted.flow.id for each in found[:-1]}) == 1
    return [each.change for each in found[:-1]]


def test_the_end_of_a_connection_is_told_at_once_and_when_its_entry_goes(host: Host) -> None:
    assert changes(host.hears(), host) == [Change.BEGUN, Change.ENDED, Change.ENDED]


def test_where_ends_are_not_asked_for_one_is_told_when_the_entry_goes(host: Host) -> None:
    events = host.hears()
    events.ask_for_ends(at_once=False)
    assert changes(events, host) == [Change.BEGUN, Change.ENDED]


def test_they_are_told_again_where_they_are_asked_for_again(host: Host) -> None:
    events = host.hears()
    for at_once in (False, True):
        events.ask_for_ends(at_once=at_once)
    assert changes(events, host) == [Change.BEGUN, Change.ENDED, Change.ENDED]


def test_what_concerns_no_container_and_what_asks_for_names_does_not_pass(host: Host) -> None:
    events = host.hears()
    host.call(HOST, HOST)
    host.send(HERE, RESOLVER)
    host.send(HOST, HERE)
    host.send(HERE, HOST)
    found = [(each.counted.flow.source, each.counted.flow.destination) for each in heard(events)]
    assert found == [(HOST, HERE), (HERE, HOST)]


def test_what_a_program_deletes_is_cut(host: Host) -> None:
    events = host.hears()
    host.send(HERE, THERE)
    host.netns.run("conntrack", "-D", "-p", "udp")
    assert [each.change for each in heard(events)] == [Change.BEGUN, Change.CUT]


def test_of_what_floods_few_pass_and_of_others_all(host: Host) -> None:
    events = host.hears()
    events.let_pass(replace(PASSES, flooding=frozenset({HERE})))
    host.send(HERE, HOST, times=MANY)
    host.send(THERE, HOST, times=SAMPLE)
    found = [each.counted.flow.source for each in heard(events)]
    assert 0 < found.count(HERE) < MANY / 8
    assert found.count(THERE) == SAMPLE


def test_what_finds_no_room_is_counted_as_lost(host: Host) -> None:
    events = host.hears(room=16 << 10)
    host.send(HERE, THERE, times=MANY)
    assert events.is_pressed
    found, lost = events.take(most=MANY)
    assert 0 < len(found) < MANY
    assert lost > 0
    assert not events.is_pressed


def test_in_a_container_only_calls_to_its_own_address_and_those_that_envoy_takes_pass(host: Host) -> None:
    events = host.hears(StreamFilter(THERE))
    host.call(THERE, HERE)
    host.send(HERE, THERE)
    host.call(HERE, THERE)
    found = {(each.counted.flow.source, each.counted.flow.destination) for each in heard(events)}
    assert found == {(HERE, THERE)}


def test_octets_and_age_are_known_where_the_kernel_keeps_them(host: Host) -> None:
    host.send(HERE, THERE)
    for setting in ("acct", "timestamp"):
        assert run_in(host.netns.path, partial(flow_table.setting, setting)) == 0
        host.netns.run("sysctl", "-qw", f"net.netfilter.nf_conntrack_{setting}=1")
        assert run_in(host.netns.path, partial(flow_table.setting, setting)) == 1
    host.send(THERE, HERE)
    table = run_in(host.netns.path, partial(flow_table.look, within=PASSES.within))
    known = {each.flow.source: (each.sent, each.began is not None) for each in table.flows}
    assert known == {HERE: (None, False), THERE: (29, True)}
    assert table.whole


def test_where_no_descriptor_is_left_following_is_refused_as_by_the_kernel() -> None:
    """An error of another kind would end the agent's task."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(HostRefused, match="cannot be followed: Too many open files"):
            FlowEvents(StreamFilter(IPv4Address("10.255.1.2")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
