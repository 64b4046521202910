"""Strict mode on one cell: what a container does to its own ways into tunnels and out of them, and to those of others."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, TCP
from scapy.packet import Packet

from host.namespace import run_in
from tests.testlib.attacks.attacked_cell import STRICT, AttackedCell
from tests.testlib.attacks.attacker import Capture, capture, captured, withstood
from tests.testlib.attacks.bystander import Bystander
from tests.testlib.attacks.port_thief import beside_envoy
from tests.testlib.connections import is_alive
from tests.testlib.instance import TLS_PORT, Instance
from tests.testlib.mutation import Setting, Without, stopped_by
from tests.testlib.netns import Netns
from tests.testlib.node import Refused, pair
from tests.testlib.patience import eventually
from tests.testlib.tunnels.mutual_tls import INBOUND, OUTBOUND

RIGHT = "policies:\n- {from: evil/shop/other, to: acme/shop/api, tcp: [8085]}\n"
UNDER_ATTACK = 1.0  # seconds
SPOOFING = (
    Without("raw", "CELLNET-PREROUTING", "-i cnet+ -g CELLNET-FORGED"),
    Without("raw", "CELLNET-PREROUTING", "rpfilter"),
    Setting("net/ipv4/conf/{mallory}/rp_filter", 0),
)
pytestmark = pytest.mark.parametrize("backend", [STRICT], indirect=True)

# what root does at its own end; WEB is another container's address, OWN its own one
ONCE = {
    "redirect removed": ("nft delete table ip cellnet", "nft delete table ip cellnet-only-tunnels"),
    "way back removed": ("ip rule flush", "ip route flush table 77", "sysctl -qw net.ipv4.tcp_fwmark_accept=0"),
    "tunnels led to another container": ("iptables-nft -t nat -A OUTPUT -p tcp --dport 15008 -j DNAT --to WEB:15008",),
    "tunnels led to the own end": ("iptables-nft -t nat -A OUTPUT -p tcp --dport 15008 -j DNAT --to OWN:15008",),
    "tunnels with another's address": ("iptables-nft -t nat -A POSTROUTING -p tcp --dport 15008 -j SNAT --to WEB",),
    "all that comes and goes led into tunnels": (
        "iptables-nft -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001",
        "iptables-nft -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15001",
    ),
    "own address removed": ("ip address flush dev eth0",),
    "loopback's address removed": ("ip address flush dev lo",),
    "loopback down": ("ip link set lo down",),
    "no local ports": ("sysctl -qw net.ipv4.ip_local_port_range=65000 65000", "sysctl -qw net.ipv4.tcp_max_tw_buckets=1"),
}  # fmt: skip
AGAIN = {
    "tunnels destroyed": ("ss -K state established",),
    "own listeners destroyed": ("ss -Kl",),
}


@pytest.fixture
def other(stage: AttackedCell) -> Iterator[Instance]:
    """An attacker that may call one port of api, and may ruin its namespace. Its tunnel is open."""
    stage.cell.policy_file("right.yaml", RIGHT)
    made = stage.another()
    for each in pair(made, stage.api, 8085):
        made.keep(each)
    yield made
    stage.cell.remove_policy_file("right.yaml")


@pytest.fixture
def bystander(stage: AttackedCell) -> Iterator[Bystander]:
    """Calls from web to api. None of them fails."""
    with Bystander(lambda: dialled(stage.web, stage.api, 8080, seconds=5.0)) as made:
        eventually(lambda: made.calls() >= 5)
        yield made
        before = made.calls()
        eventually(lambda: made.calls() >= before + 5)
    assert made.failures == []


def dialled(caller: Instance, target: Instance, port: int, *, seconds: float) -> socket.socket:
    """A call that the caller does not keep for its end."""
    return run_in(caller.pin, lambda: socket.create_connection((str(target.address), port), timeout=seconds))


def plain(listening: Capture, source: Instance) -> list[Packet]:
    """What has arrived of TCP that is no tunnel."""
    found = [each for each in listening.pending() if TCP in each and each[IP].src == str(source.address)]
    return [each for each in found if each[TCP].dport not in (INBOUND, TLS_PORT) and each[TCP].sport not in (INBOUND, TLS_PORT)]


def _does(attacker: Instance, stage: AttackedCell, commands: tuple[str, ...]) -> None:
    for command in commands:
        words = command.replace("WEB", str(stage.web.address)).replace("OWN", str(attacker.address)).split()
        attacker.run(*words, code=None)


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("attack", [*ONCE, *AGAIN])
def test_what_root_does_to_its_tunnels_costs_no_other_a_call_and_sends_nothing_in_plain(
    stage: AttackedCell, other: Instance, attack: str
) -> None:
    live, _ = pair(other, stage.api, 8085)
    live.settimeout(0.1)
    known = len(stage.web.callers(8085))
    with capture(stage.api) as at_api, capture(stage.web) as at_web:
        _does(other, stage, ONCE.get(attack, ()))
        until = time.monotonic() + UNDER_ATTACK
        while time.monotonic() < until:
            _does(other, stage, AGAIN.get(attack, ()))
            with contextlib.suppress(OSError):
                live.sendall(b"in plain?")
            with contextlib.suppress(OSError), dialled(other, stage.api, 8085, seconds=0.1) as new:
                new.sendall(b"in plain?")
                new.recv(16)
        assert plain(at_api, other) == []
        assert plain(at_web, other) == []
    assert len(stage.web.callers(8085)) == known
    assert stage.cell.envoy_pid


def test_ports_that_are_taken_first_are_refused_with_a_reason_and_cost_no_other(
    stage: AttackedCell, bystander: Bystander
) -> None:
    place = Netns("taken")
    with contextlib.closing(place):
        place.run("ip", "link", "set", "lo", "up")
        for port, address in ((OUTBOUND, "127.0.0.1"), (INBOUND, "0.0.0.0"), (TLS_PORT, "0.0.0.0")):
            with run_in(place.path, lambda: socket.create_server((address, port))):
                words = ("attach", "--name", "taken", "--app", "evil/shop/taken", "--netns", str(place.path))
                assert f"port {port}" in stage.cell.cellnet(*words, code=1).err
    assert "taken" not in stage.cell.attachments()
    stage.cell.wait_well()


@pytest.mark.usefixtures("bystander")
def test_root_inside_with_the_number_of_envoys_user_does_not_keep_an_end_of_tunnels(
    stage: AttackedCell, other: Instance
) -> None:
    """It gets a part of what its own container says, or is said, until the agent's next look."""
    ends = {OUTBOUND: "127.0.0.1", INBOUND: str(other.address)}
    with contextlib.ExitStack() as thieves:
        for port, address in ends.items():
            thieves.enter_context(beside_envoy(stage.cell.envoy_pid, other.pin, address=address, port=port))
        wanted = {f"Envoy's port {port} of {other.name} cleared of another program's socket" for port in ends}
        eventually(lambda: wanted <= {each.text("what") for each in stage.cell.status().at("last_repairs").each()})
    assert is_alive(*pair(other, stage.api, 8085))


# the tunnels of others


def test_no_end_of_others_tunnels_is_reached_without_a_right(stage: AttackedCell) -> None:
    """A call to the one on 127.0.0.1 is taken for one to an app."""
    assert stage.mallory.connect(stage.api, INBOUND) is Refused
    for caller in (stage.mallory, stage.web):
        with dialled(caller, stage.api, OUTBOUND, seconds=5.0) as made:
            made.sendall(b"?")
            assert is_ended(made)


def is_ended(connection: socket.socket) -> bool:
    """Whether it comes to its end without a word."""
    with contextlib.suppress(ConnectionError):
        return connection.recv(16) == b""
    return True


@pytest.mark.parametrize("kind", ["data", "reset", "call"])
@stopped_by(*SPOOFING)
def test_a_forged_segment_gets_into_no_tunnel_of_others(stage: AttackedCell, kind: str) -> None:
    client, server = pair(stage.web, stage.api, 8081)
    last = _segment_of_tunnel(stage, lambda: client.sendall(b"own words"))
    assert server.recv(100) == b"own words"
    tcp, length = last[TCP], len(last[TCP].payload)
    following = {
        "data": TCP(sport=tcp.sport, dport=tcp.dport, seq=tcp.seq + length, ack=tcp.ack, flags="PA", window=500) / b"forged",
        "reset": TCP(sport=tcp.sport, dport=tcp.dport, seq=tcp.seq + length, flags="R"),
        "call": TCP(sport=40_000, dport=INBOUND, seq=1, flags="S"),
    }
    found = captured(stage.wire, [IP(src=last[IP].src, dst=last[IP].dst) / following[kind]], at=stage.api)
    forged = [
        each for each in found if TCP in each and (each[TCP].flags in ("R", "S") or bytes(each[TCP].payload) == b"forged")
    ]
    withstood(it=not forged and is_alive(client, server))


def _segment_of_tunnel(stage: AttackedCell, speak: Callable[[], object]) -> Packet:
    """The last data that has come to api in a tunnel of web's: what an attacker at best can know."""
    with capture(stage.api) as listening:
        speak()
        time.sleep(0.1)
        came = [each for each in listening.pending() if TCP in each and each[TCP].dport == INBOUND]
    return [each for each in came if each[IP].src == str(stage.web.address) and len(each[TCP].payload)][-1]
