"""A container that would fill the host's connection table, which all share: only its own further flows are refused."""

import time
from contextlib import suppress

import pytest
from scapy.layers.inet import ICMP, IP

from dataplane.firewall.flow_limits import OverLimit, over_limit
from host.namespace import run_in
from tests.testlib.attacks.attacked_hosts import AttackedHosts
from tests.testlib.attacks.attacker import withstood
from tests.testlib.connections import is_alive
from tests.testlib.mutation import With, Without, stopped_by
from tests.testlib.node import Node, echo, pair, udp_pair

BURST, RATE = 10_000, 1_000
FLOOD = 30_000
PAUSE = 2.2  # after a second of silence the kernel would forget a source by itself, and looks for such every second
TIMESTAMP = 13  # of ICMP: what is no echo
DATAGRAMS = Without("filter", "CELLNET-NEW", "cellnet-new-udp")
ECHOES = Without("filter", "CELLNET-NEW", "cellnet-new-icmp")


def entries(cells: AttackedHosts, source: Node, *, protocol: str = "udp") -> int:
    """Of cell 1, those that a container has opened."""
    return cells.cell(1).run("conntrack", "-L", "-p", protocol, "-s", str(source.address)).count("src=") // 2


def flood(sender: Node, to: str) -> float:
    """So many flows, each of one datagram; how many seconds it took."""
    begun = time.monotonic()
    made = sender.datagrams()
    for number in range(FLOOD):
        with suppress(OSError):
            made.sendto(b"", (to, 1024 + number))
    return time.monotonic() - begun


@stopped_by(DATAGRAMS)
def test_a_flood_of_datagrams_to_another_cell_leaves_room_for_all_others(cells: AttackedHosts) -> None:
    web, api, mallory = cells["web"], cells["api"], cells["mallory"]
    lasting = pair(web, api, 8080), udp_pair(mallory, api, 4789)
    took = flood(mallory, str(cells["eve"].address))
    time.sleep(PAUSE)
    took += PAUSE + flood(mallory, str(cells["eve"].address))
    limited = run_in(cells.cell(1).pin, over_limit)  # now: a thousand more are allowed each second
    withstood(it=entries(cells, mallory) <= BURST + RATE * (took + 1), what=f"{entries(cells, mallory)} in {took:.1f} s")
    assert all(is_alive(*ends) for ends in lasting)
    assert is_alive(*pair(web, api, 8080))
    assert is_alive(*udp_pair(web, api, 8080))
    assert limited == OverLimit(flows=frozenset({mallory.address}))


def test_a_stream_of_one_flow_is_no_flood(cells: AttackedHosts) -> None:
    """Also where it is never answered: it is one entry, whatever it carries."""
    near, api = cells["near"], cells["api"]
    with near.datagrams() as sender:
        sender.connect((str(api.address), 8080))
        for _ in range(FLOOD):
            with suppress(OSError):
                sender.send(b"")
    assert run_in(cells.cell(3).pin, over_limit) == OverLimit()


@stopped_by(With("filter", "CELLNET-NEW", "-i cnet+ -o cellnet0 -j ACCEPT"))
@pytest.mark.parametrize("protocol", [1, 47, 253])
def test_what_no_policy_speaks_of_does_not_leave_its_cell(cells: AttackedHosts, protocol: int) -> None:
    """Other protocols' entries last 10 minutes without an answer."""
    mallory, target = cells["mallory"], str(cells["eve"].address)
    packet = IP(src=str(mallory.address), dst=target, proto=protocol)
    cells.wire("mallory").send(packet / ICMP(type=TIMESTAMP) if protocol == 1 else packet / b"other")
    time.sleep(0.1)
    listed = cells.cell(1).run("conntrack", "-L", "-s", str(mallory.address), "-d", target)
    withstood(it=not [line for line in listed.splitlines() if line.startswith(("icmp", "gre", "unknown"))], what=listed)


@stopped_by(ECHOES)
def test_a_flood_of_echoes_to_another_cell_leaves_room_for_all_others(cells: AttackedHosts) -> None:
    web, api, mallory = cells["web"], cells["api"], cells["mallory"]
    begun = time.monotonic()
    with mallory.raw_icmp() as sender:
        for number in range(FLOOD):
            sender.sendto(echo(number), (str(cells["eve"].address), 0))
    took = time.monotonic() - begun
    limited = run_in(cells.cell(1).pin, over_limit)
    found = entries(cells, mallory, protocol="icmp")
    withstood(it=found <= BURST + RATE * (took + 1), what=f"{found} in {took:.1f} s")
    assert is_alive(*pair(web, api, 8080))
    assert limited == OverLimit(flows=frozenset({mallory.address}))
