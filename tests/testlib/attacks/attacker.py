"""Root in a container as an attacker: frames of any kind out of an interface, and captures where none of them may arrive.

Whether something was *not* delivered is known without waiting for nothing: after the attack the same place sends a canary, a
datagram that is allowed there; once that has arrived, what was sent before it has been delivered or dropped.
"""

import itertools
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from host.namespace import run_in
from tests.testlib.node import PATIENCE, Node

EVERYTHING = 0x0003  # ETH_P_ALL
OUTGOING = 4  # PACKET_OUTGOING
CANARY_PORT = 7000
_numbers = itertools.count()


class AttackSucceeded(AssertionError):
    """The one way in which a test of an attack fails because of the attack."""


def withstood(*, it: bool, what: str = "the attack succeeded") -> None:
    """Claim that an attack did not succeed."""
    if not it:
        raise AttackSucceeded(what)


class Wire:
    """One interface of a place, by raw frames in both directions. `mac` and `to` are what its frames have by default."""

    def __init__(self, place: Node, interface: str = "eth0", *, mac: str, to: str) -> None:
        self.place, self.interface, self._mac, self._to = place, interface, mac, to
        self._socket = place.keep(run_in(place.pin, lambda: _packet_socket(interface)))

    def send(self, *packets: Packet) -> None:
        """Send frames, or packets in frames of our own."""
        self.send_as_they_are([bytes(self.framed(packet)) for packet in packets])

    def framed(self, packet: Packet) -> Packet:
        """A packet in a frame of our own; a frame as it is."""
        return packet if isinstance(packet, Ether) else Ether(src=self._mac, dst=self._to) / packet

    def send_as_they_are(self, frames: Sequence[bytes]) -> None:
        """Send whole frames."""
        for frame in frames:
            self._socket.send(frame)

    def canary(self, to: Node, port: int = CANARY_PORT) -> bytes:
        """Send a datagram that is allowed, from our own address; the payload by which it is known."""
        payload = f"canary {next(_numbers)}".encode()
        # from a port that does not answer: two ports that echo would go on for ever
        self.send(IP(src=str(self.place.address), dst=str(to.address)) / UDP(sport=CANARY_PORT - 1, dport=port) / payload)
        return payload


@contextmanager
def sent_again_and_again(wire: Wire, *packets: Packet) -> Iterator[None]:
    """All of them, for as long as the block; they have been sent once when it begins."""
    over, frames = Event(), [bytes(wire.framed(each)) for each in packets]

    def send() -> None:
        while not over.wait(0.02):
            wire.send_as_they_are(frames)

    wire.send_as_they_are(frames)
    sender = Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


class Capture:
    """Everything that arrives at one interface of a place, from now on."""

    def __init__(self, place: Node, interface: str = "eth0") -> None:
        self._socket = run_in(place.pin, lambda: _packet_socket(interface))

    def frames(self, *, until: Callable[[Packet], bool], seconds: float = PATIENCE) -> list[Packet]:
        """What has come, up to the one that `until` knows, which is left out. Fails if that does not come."""
        frames: list[Packet] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                got, sender = self._socket.recvfrom(65536)
            except TimeoutError:
                break
            if sender[2] == OUTGOING:
                continue
            frame = Ether(got)
            if until(frame):
                return frames
            frames.append(frame)
        raise AssertionError(f"nothing of the kind came within {seconds:g} s, only {[each.summary() for each in frames[-9:]]}")

    def packets(self, *, until: bytes) -> list[Packet]:
        """What has come over IPv4 before the canary `until`."""
        frames = self.frames(until=lambda frame: UDP in frame and bytes(frame[UDP].payload).rstrip(b"\0") == until)
        return [frame[IP] for frame in frames if IP in frame]

    def pending(self) -> list[Packet]:
        """What has come so far, without waiting."""
        self._socket.setblocking(False)
        frames: list[Packet] = []
        while True:
            try:
                got, sender = self._socket.recvfrom(65536)
            except BlockingIOError:
                return frames
            if sender[2] != OUTGOING:
                frames.append(Ether(got))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def capture(place: Node, interface: str = "eth0") -> Iterator[Capture]:
    """A capture for a while."""
    made = Capture(place, interface)
    try:
        yield made
    finally:
        made.close()


def captured(
    wire: Wire, packets: Sequence[Packet], *, at: Node, interface: str = "eth0", port: int = CANARY_PORT,
    canary_to: Node | None = None,
) -> list[Packet]:  # fmt: skip
    """What arrives over IPv4 at a place of all that is sent."""
    with capture(at, interface) as listening:
        wire.send(*packets)
        return listening.packets(until=wire.canary(canary_to or at, port))


def carrying(payload: bytes, packets: Sequence[Packet]) -> list[Packet]:
    """Those that deliver a payload, and do not only quote it."""
    return [each for each in packets if ICMP not in each and Raw in each and each[Raw].load == payload]


def has_something(listening: socket.socket) -> bool:
    """Whether a datagram is waiting."""
    listening.setblocking(False)
    try:
        listening.recv(100)
    except BlockingIOError:
        return False
    return True


def mac_of(place: Node, interface: str) -> str:
    return place.run("ip", "-o", "link", "show", "dev", interface).split("link/ether ")[1].split()[0]


def _packet_socket(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
    made.bind((interface, 0))
    return made
