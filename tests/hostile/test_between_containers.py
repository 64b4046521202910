"""Containers of different cells: one that speaks as another, and two that want to talk without a policy."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Packet

from tests.testlib.attacker import heard, withstood
from tests.testlib.crossing import BACKENDS, Crossing, crossing
from tests.testlib.mutation import At, Without, perhaps_mutated, stopped_by
from tests.testlib.standpoint import Refused, outcome_of

ERRORS = Without("filter", "CELLNET-ERRORS", "--ctdir REPLY")


@pytest.fixture(scope="module", params=BACKENDS)
def module_cells(request: pytest.FixtureRequest) -> Iterator[Crossing]:
    with crossing(request.param) as made:
        yield made


@pytest.fixture
def cells(module_cells: Crossing, request: pytest.FixtureRequest) -> Iterator[Crossing]:
    with perhaps_mutated(module_cells.ground, request):
        yield module_cells
        module_cells.undo()


def _error(cells: Crossing, sender: str, about: Packet, quoted: bytes) -> Packet:
    """That what it has been sent has found nobody, with words of its own where the packet should be quoted."""
    return IP(src=str(cells[sender].address), dst=about[IP].src) / ICMP(type=3, code=3) / about[IP] / quoted


@pytest.mark.parametrize("kind", [3, 11, 12])
@stopped_by(
    Without("filter", "CELLNET-ERRORS", "--ctdir REPLY"), At("cell 2", Without("filter", "CELLNET-ERRORS", "--ctdir REPLY"))
)
def test_two_that_have_both_called_in_vain_exchange_no_words_in_errors(cells: Crossing, kind: int) -> None:
    calls = {"mallory": cells.datagram("mallory", "eve", b"call"), "eve": cells.datagram("eve", "mallory", b"call")}
    calls["eve"][UDP].sport, calls["eve"][UDP].dport = 8080, 5000  # the same flow, if it were one
    for name, call in calls.items():
        heard(cells.wire(name), [call], at=cells["api" if name == "mallory" else "web"])
    for sender, other in (("mallory", "eve"), ("eve", "mallory")):
        about = calls[other].copy()
        about[UDP].remove_payload()
        error = _error(cells, sender, about, b"words of a secret" * 8)
        error[ICMP].type = kind
        found = heard(cells.wire(sender), [error], at=cells[other])
        withstood(it=not any(b"secret" in bytes(each) for each in found), what=f"{other} hears {sender}")


def test_an_error_about_a_flow_that_is_allowed_arrives_from_both_ends(cells: Crossing) -> None:
    """Nobody is at the server's port; then nobody at the client's any longer."""
    assert cells["web"].udp(cells["api"], 8080) is Refused
    with cells["api"].datagrams(8080) as server:
        with cells["web"].datagrams() as client:
            client.sendto(b"question", (str(cells["api"].address), 8080))
            server.connect(server.recvfrom(100)[1])
        assert outcome_of(lambda: (server.send(b"answer"), server.recv(100))) is Refused
