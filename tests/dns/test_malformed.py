"""Whatever bytes come as a question, dnsmasq goes on answering others, as the same process."""

import socket
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRROPT
from scapy.packet import fuzz

from host.namespace import run_in
from tests.testlib.beds.dns import DnsBed
from tests.testlib.dns.client import HEADER, INTERNET, PORT, RESOLVER, Code, Kind, ask, ask_over_tcp, question

EXAMPLES = 300
ODD = {
    "nothing": b"",
    "half a header": b"\0\1\1",
    "no question": HEADER.pack(1, 0, 0, 0, 0, 0),
    "an answer": HEADER.pack(1, 0x8180, 1, 0, 0, 0) + question("api.cell.internal")[12:],
    "every operation": b"".join(HEADER.pack(1, code << 11, 1, 0, 0, 0) for code in range(16)),
    "a name that points to itself": HEADER.pack(1, 0, 1, 0, 0, 0) + b"\xc0\x0c" + struct.pack("!HH", Kind.A, INTERNET),
    "a name without an end": HEADER.pack(1, 0, 1, 0, 0, 0) + b"\x3fa" * 100,
    "a name of 300 octets": HEADER.pack(1, 0, 1, 0, 0, 0)
    + b"\x3f"
    + b"a" * 63 * 5
    + b"\0"
    + struct.pack("!HH", Kind.A, INTERNET),
    "a label of no letters": HEADER.pack(1, 0, 1, 0, 0, 0) + b"\x05a\0b\x07." + b"\0" + struct.pack("!HH", Kind.A, INTERNET),
    "many questions": HEADER.pack(1, 0, 65535, 65535, 65535, 65535) + question("api.cell.internal")[12:] * 20,
    "a transfer of the zone": question("cell.internal", 252),
    "the largest datagram": question("api.cell.internal") + bytes(1400),
}


@pytest.fixture
def asked(bed: DnsBed) -> socket.socket:
    """A UDP socket of a container, connected with the resolver."""
    made = bed.containers[0].keep(run_in(bed.containers[0].pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
    made.connect((str(RESOLVER), PORT))
    return made


def send(asked: socket.socket, *messages: bytes) -> None:
    """Each of them, whatever comes of it."""
    for each in messages:
        with suppress(OSError):
            asked.send(each)


def goes_on(bed: DnsBed) -> bool:
    """Whether it answers another container as before, over UDP and TCP, and is the process that it was."""
    assert bed.process is not None
    found = [over(bed.containers[1], "nothing.cell.internal").code for over in (ask, ask_over_tcp)]
    return found == [Code.NXDOMAIN, Code.NXDOMAIN] and bed.process.poll() is None


@pytest.mark.parametrize("what", ODD)
def test_an_odd_message_is_passed_over(bed: DnsBed, asked: socket.socket, what: str) -> None:
    message = ODD[what]
    send(asked, message, message[:512])
    whole = struct.pack("!H", len(message)) + message
    for sent in (whole, whole[:-1], struct.pack("!H", 65535) + message, whole * 3):
        with bed.containers[0].dial(RESOLVER, PORT) as caller:
            caller.sendall(sent)
            with suppress(OSError):
                caller.shutdown(socket.SHUT_WR)
    assert goes_on(bed)


def test_random_bytes_stop_nothing(bed: DnsBed, asked: socket.socket) -> None:
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.binary(max_size=600), min_size=1, max_size=5))
    def whatever(messages: list[bytes]) -> None:
        send(asked, *messages)

    whatever()
    assert goes_on(bed)


def test_a_question_with_some_octets_changed_stops_nothing(bed: DnsBed, asked: socket.socket) -> None:
    base = question("0.api.shop.acme.cell.internal", Kind.ANY, edns=1232)
    octets = st.dictionaries(st.integers(0, len(base) - 1), st.integers(0, 255), min_size=1, max_size=6)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(octets, st.integers(1, len(base)))
    def whatever(changed: dict[int, int], length: int) -> None:
        message = bytearray(base)
        for place, octet in changed.items():
            message[place] = octet
        send(asked, bytes(message), bytes(message[:length]))

    whatever()
    assert goes_on(bed)


def test_records_of_any_kind_in_a_question_stop_nothing(bed: DnsBed, asked: socket.socket) -> None:
    for number in range(EXAMPLES):
        made = DNS(id=number, qd=fuzz(DNSQR()), an=fuzz(DNSRR()), ar=fuzz(DNSRROPT())) if number % 2 else fuzz(DNS(qd=DNSQR()))
        with suppress(Exception):  # not everything that scapy makes up it can write
            send(asked, bytes(made))
    assert goes_on(bed)


def test_the_process_has_not_grown_by_it(bed: DnsBed) -> None:
    """After all that the tests above have sent."""
    assert bed.process is not None
    status = Path(f"/proc/{bed.process.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < 20_000
