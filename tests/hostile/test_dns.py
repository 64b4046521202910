"""The DNS of a cell, which its containers share: nothing else asks it, and one container, or ten, leave the others theirs."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP

from dataplane.dns.limits import LONG_BURST, most_children
from host.namespace import run_in
from tests.testlib.attacks.attacked_cell import AttackedCell
from tests.testlib.attacks.attacker import sent_again_and_again, withstood
from tests.testlib.attacks.dns_floods import connections_in, flooded_by, idle_connections, unanswered
from tests.testlib.dns.client import PORT, RESOLVER, Code, Kind, ask, ask_once, ask_over_tcp
from tests.testlib.instance import Instance
from tests.testlib.mutation import Setting, Without, stopped_by
from tests.testlib.node import Node

STRANGERS = Without("filter", "CELLNET-INPUT", "-d 169.254.0.2/32")
QUESTIONS = Without("filter", "CELLNET-RESOLVER", "cellnet-dns-udp")
CALLS = Without("filter", "CELLNET-RESOLVER", "cellnet-dns-tcp")
OPEN = Without("filter", "CELLNET-RESOLVER", "--connlimit-above")
UNTRACKED_BEYOND = Without("raw", "CELLNET-OUTPUT", "-d 127.157.0.2/32")
UNTRACKED = Without("raw", "CELLNET-PREROUTING", "-d 169.254.0.2/32")
MOST_OPEN, BURST, RATE = 4, 100, 50
BURST_OF_ALL = 5_000  # one second's credit of a few, at most
once = pytest.mark.parametrize("backend", ["nft"], indirect=True)
PAUSE = 3.0  # until a container has its whole credit again


@pytest.fixture
def stranger(stage: AttackedCell) -> Iterator[Node]:
    """A host of the cell's network, with a way to the resolver's address."""
    stage.outside.run("ip", "route", "add", f"{RESOLVER}/32", "via", str(stage.host.address))
    yield stage.outside
    stage.outside.run("ip", "route", "del", f"{RESOLVER}/32")


@pytest.fixture
def ten(stage: AttackedCell) -> list[Instance]:
    """Ten more attackers."""
    return [stage.another() for _ in range(10)]


def overflown(host: Node) -> int:
    """How many datagrams found no room in the resolver's socket since it was opened."""
    lines = run_in(host.pin, lambda: Path("/proc/thread-self/net/udp").read_text().splitlines()[1:])
    return sum(int(line.split()[12]) for line in lines if line.split()[1].endswith(f":{PORT:04X}"))


@stopped_by(STRANGERS)
def test_a_stranger_is_not_answered(stage: AttackedCell, stranger: Node) -> None:
    assert ask(stage.web, "nothing.cell.internal").code is Code.NXDOMAIN
    heard = []
    for over in (ask_once, ask_over_tcp):
        with suppress(OSError):
            heard.append(over(stranger, "nothing.cell.internal", seconds=1.0))
    withstood(it=not heard, what=f"a stranger heard {heard}")


@stopped_by(QUESTIONS)
def test_a_flood_of_one_container_leaves_the_others_theirs(stage: AttackedCell) -> None:
    before = overflown(stage.host)
    with flooded_by(*[stage.mallory] * 4):
        lost = unanswered(stage.web)
    overflow = overflown(stage.host) - before
    what = f"{lost} questions of another container came to nothing, {overflow} in all found no room"
    withstood(it=not lost and overflow < BURST_OF_ALL, what=what)


@once
@stopped_by(QUESTIONS)
def test_floods_of_ten_containers_leave_the_others_theirs(stage: AttackedCell, ten: list[Instance]) -> None:
    before = overflown(stage.host)
    with flooded_by(*ten):
        lost = unanswered(stage.web)
    overflow = overflown(stage.host) - before
    what = f"{lost} questions of another container came to nothing, {overflow} in all found no room"
    withstood(it=not lost and overflow < BURST_OF_ALL, what=what)


@stopped_by(UNTRACKED)
def test_a_flood_takes_no_room_in_the_table_of_connections(stage: AttackedCell) -> None:
    with flooded_by(stage.mallory):
        for number in range(50):
            with suppress(OSError):
                ask_once(stage.mallory, f"{number}.cell.internal", seconds=0.05)
    entries = stage.host.run("conntrack", "-L", "-p", "udp", "-s", str(stage.mallory.address)).count(f"dst={RESOLVER}")
    withstood(it=entries == 0, what=f"{entries} entries")


@stopped_by(UNTRACKED_BEYOND)
def test_questions_for_names_of_the_outside_take_none_either(stage: AttackedCell) -> None:
    """dnsmasq asks the hop for each, and this one may ask for none."""
    for number in range(50):
        assert not ask(stage.mallory, f"{number}.example.com").addresses
    entries = stage.host.run("conntrack", "-L", "-p", "udp").count("127.157.0.2")
    withstood(it=entries == 0, what=f"{entries} entries")


@stopped_by(OPEN)
def test_connections_that_stay_open_are_few(stage: AttackedCell) -> None:
    time.sleep(PAUSE)
    held = idle_connections(stage.mallory, 3 * MOST_OPEN)
    assert len(held) >= MOST_OPEN
    withstood(it=len(held) == MOST_OPEN, what=f"{len(held)} are open")
    assert not unanswered(stage.web, times=3)


@once
@pytest.mark.usefixtures("many_files")
@stopped_by(CALLS, OPEN)
def test_ten_containers_with_all_that_they_may_hold_leave_the_others_theirs(stage: AttackedCell, ten: list[Instance]) -> None:
    """Each wants a fifth of all that dnsmasq takes, and wants it again."""
    held = [idle_connections(each, most_children(256) // 5, seconds=0.1) for each in (*ten, *ten)]
    assert sum(map(len, held)) >= len(ten) * MOST_OPEN
    lost = unanswered(stage.web, times=5)
    withstood(it=not lost, what=f"{lost} questions of another container came to nothing, {sum(map(len, held))} are open")


@stopped_by(CALLS, OPEN)
def test_new_connections_are_few_in_a_second(stage: AttackedCell) -> None:
    """For each dnsmasq makes a process."""
    time.sleep(PAUSE)
    begun = time.monotonic()
    made = connections_in(stage.mallory, seconds=3.0)
    most = BURST + RATE * (time.monotonic() - begun + 1)
    withstood(it=made <= most, what=f"{made} connections")
    assert not unanswered(stage.web, times=3)


@once
@stopped_by(CALLS, OPEN, Setting("net/ipv4/tcp_syncookies", 0))
def test_calls_that_are_never_completed_leave_the_others_theirs(stage: AttackedCell) -> None:
    """Root inside keeps its kernel from ending what that has not begun."""
    ends = ("OUTPUT", "-p", "tcp", "--tcp-flags", "RST", "RST", "-j", "DROP")
    stage.mallory.run("iptables-nft", "-A", *ends)
    stage.extra.append(lambda: stage.mallory.run("iptables-nft", "-D", *ends))
    begun = IP(src=str(stage.mallory.address), dst=str(RESOLVER))
    with sent_again_and_again(stage.wire, *(begun / TCP(sport=20_000 + each, dport=PORT, flags="S") for each in range(200))):
        lost = unanswered(stage.web, times=3)
    withstood(it=not lost, what=f"{lost} questions of another container came to nothing")


@once
def test_of_names_that_are_very_long_some_are_answered_and_of_others_all(stage: AttackedCell) -> None:
    """Those that lead back from an address of IPv6 are, and those that an attacker has go on elsewhere look so."""
    for number in range(3 * LONG_BURST):
        assert ask_once(stage.web, f"{number}.2.3.4.5.6.7.8.9.cell.internal").code is Code.NXDOMAIN
    back = ".".join("0123456789abcdef" * 2) + ".ip6.arpa"
    answered = 0
    for _ in range(3 * LONG_BURST):
        with suppress(TimeoutError):
            answered += bool(ask_once(stage.mallory, back, Kind.PTR, seconds=0.02))
    assert LONG_BURST <= answered < 2 * LONG_BURST
