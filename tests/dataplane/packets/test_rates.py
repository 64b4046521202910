"""A container sends and receives no faster than its rate; others are as fast as they were."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Thread

import pytest

from dataplane.netlink.link_rates import LEAST_BYTES
from dataplane.sets.limit_hits import limit_hits
from dataplane.state import HostState, Limits
from dataplane.tables import host_interface, shaper_interface
from host.namespace import run_in
from tests.testlib.connections import is_alive
from tests.testlib.hosts import allow
from tests.testlib.netns import Netns
from tests.testlib.node import Node, pair
from tests.testlib.two_hosts import WEB, TwoHosts, two_hosts

OTHER = WEB + 1
MEGABIT = 1_000_000
SLOW = 8 * MEGABIT  # a million bytes a second
SENT = 1_000_000
PORT = 8080
SO_SNDBUFFORCE = 32


@pytest.fixture
def cells(netns: Callable[[str], Netns]) -> Iterator[TwoHosts]:
    with two_hosts(netns) as made:
        yield made


def limit(cells: TwoHosts, rate: int) -> HostState:
    """Web has a rate; it and other may call each other."""
    web, other = cells.workloads(cells.here)
    placed = replace(web, limits=Limits(rate=rate), allows=frozenset({allow(OTHER, str(PORT)), allow(OTHER, str(PORT), "udp")}))
    beside = replace(other, allows=frozenset({allow(WEB, str(PORT)), allow(WEB, str(PORT), "udp")}))
    state = cells.here.with_workloads(placed, beside)
    assert cells.here.become(state).failures == {}
    return state


def seconds(sender: Node, receiver: Node) -> float:
    """How long it takes to get SENT bytes through."""
    near, far = pair(sender, receiver, PORT)
    near.settimeout(60)
    far.settimeout(60)
    started = time.monotonic()
    thread = Thread(target=near.sendall, args=(bytes(SENT),))
    thread.start()
    left = SENT
    while left:
        left -= len(far.recv(left))
    thread.join()
    return time.monotonic() - started


def least(rate: int) -> float:
    """Seconds that SENT bytes take at a rate, but for what goes at once."""
    return (SENT - LEAST_BYTES) / (rate / 8)


def test_a_container_receives_and_sends_no_faster_than_its_rate(cells: TwoHosts) -> None:
    limit(cells, SLOW)
    assert seconds(cells.other, cells.web) >= least(SLOW)
    assert seconds(cells.web, cells.other) >= least(SLOW)


def test_a_flood_is_held_up_both_ways_and_what_is_lost_by_it_is_counted(cells: TwoHosts) -> None:
    limit(cells, SLOW)
    assert run_in(cells.here.netns.path, limit_hits) == {}
    for near, far in ((cells.web, cells.other), (cells.other, cells.web)):
        with near.datagrams() as sender, far.datagrams(PORT):
            sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 23)  # else the sender waits, and nothing is lost
            for _ in range(2000):
                sender.sendto(bytes(1400), (str(far.address), PORT))
    (found,) = run_in(cells.here.netns.path, limit_hits).values()
    assert found.received > 0
    assert found.sent > 0
    assert (found.new, found.connections) == (0, 0)


def test_another_rate_is_in_force_without_a_cut_and_none_leaves_nothing(cells: TwoHosts) -> None:
    limit(cells, SLOW)
    ends = pair(cells.other, cells.web, PORT)
    limit(cells, 2 * SLOW)
    assert not cells.here.left_to_do()
    assert is_alive(*ends)
    assert seconds(cells.other, cells.web) >= least(2 * SLOW)
    limit(cells, 0)
    assert is_alive(*ends)
    shown = cells.here.netns.run("tc", "qdisc", "show")
    assert "tbf" not in shown
    assert "ingress" not in shown
    assert "cifb" not in cells.here.netns.run("ip", "link")
    assert not cells.here.left_to_do()


SPOILED = (
    "tc qdisc del dev {end} root",
    "tc qdisc del dev {end} ingress",
    "tc qdisc del dev {shaper} root",
    "tc qdisc replace dev {end} root tbf rate 1gbit burst 128k limit 1m",
    "tc qdisc change dev {shaper} root tbf rate 8mbit burst 1m limit 128k",
    "tc filter del dev {end} parent ffff:",
    "tc filter add dev {end} parent ffff: prio 9 protocol all u32 match u32 0 0 action mirred egress redirect dev {end}",
    "ip link set {shaper} down",
    "ip link del {shaper}",
    "ip link del {end}",
)


@pytest.mark.parametrize("spoiled", SPOILED)
def test_what_another_program_has_changed_of_it_is_made_right_again(cells: TwoHosts, spoiled: str) -> None:
    limit(cells, SLOW)
    address = cells.web.address
    assert not cells.here.left_to_do(), str(cells.here.left_to_do())
    cells.here.netns.run(*spoiled.format(end=host_interface(address), shaper=shaper_interface(address)).split())
    assert set(cells.here.left_to_do().rates.put) == {address}
    cells.here.become(cells.here.state)
    assert not cells.here.left_to_do(), str(cells.here.left_to_do())
    assert is_alive(*pair(cells.web, cells.other, PORT))


@pytest.mark.parametrize("rate", [100_000, 999_992, 5_000 * MEGABIT, 30_000 * MEGABIT])
def test_the_slowest_and_the_fastest_are_read_back_as_they_were_written(cells: TwoHosts, rate: int) -> None:
    limit(cells, rate)
    assert not cells.here.left_to_do(), str(cells.here.left_to_do())
    assert is_alive(*pair(cells.web, cells.other, PORT))


def test_the_device_goes_with_its_container(cells: TwoHosts) -> None:
    limit(cells, SLOW)
    _, other = cells.workloads(cells.here)
    cells.here.turn(cells.here.with_workloads(other))
    assert "cifb" not in cells.here.netns.run("ip", "link")


def test_a_device_whose_link_has_gone_is_taken_away(cells: TwoHosts) -> None:
    """An agent that was killed has left it."""
    limit(cells, SLOW)
    cells.here.netns.run("ip", "link", "del", host_interface(cells.web.address))
    _, other = cells.workloads(cells.here)
    cells.here.become(cells.here.with_workloads(other))
    assert "cifb" not in cells.here.netns.run("ip", "link")


def test_a_link_of_that_name_that_is_not_ours_fails_its_container_alone(cells: TwoHosts) -> None:
    limit(cells, 0)
    cells.here.netns.run("ip", "link", "add", shaper_interface(cells.web.address), "type", "bridge")
    web, other = cells.here.state.workloads.values()
    outcome = cells.here.become(cells.here.with_workloads(replace(web, limits=Limits(rate=SLOW)), other))
    assert set(outcome.failures) == {cells.web.address}
    assert "is not cellnet's" in outcome.failures[cells.web.address].what


def test_offloaded_batches_pass_a_bucket(cells: TwoHosts) -> None:
    """64 KiB in one piece are as much as a link hands over at a time."""
    limit(cells, 1_000 * MEGABIT)
    near, far = pair(cells.web, cells.other, PORT)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    Thread(target=near.sendall, args=(bytes(1 << 22),)).start()
    left = 1 << 22
    while left:
        left -= len(far.recv(left))
