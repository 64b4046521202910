"""What a container could make of the Envoy that it shares with the others of its cell."""

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from dataplane.envoy.limits import CONNECTIONS
from host.namespace import NamespaceId, run_in
from lab.processes import Process, in_namespaces
from tests.testlib.agents.vigilant import VigilantCell
from tests.testlib.attacks.attacked_cell import STRICT, AttackedCell, attacked_cell
from tests.testlib.attacks.port_thief import beside_envoy
from tests.testlib.instance import TLS_PORT, Instance
from tests.testlib.node import Connected, Node, outcome_of
from tests.testlib.patience import becomes, eventually
from tests.testlib.tunnels.mutual_tls import INBOUND, OUTBOUND

FLOOD = "policies:\n- {from: evil/shop/mallory, to: acme/shop/api, tcp: [61443]}\n"
LISTEN = "0A"
DNS = 53
once = pytest.mark.parametrize("backend", ["nft"], indirect=True)
in_strict_mode_too = pytest.mark.parametrize("backend", ["nft", STRICT], indirect=True)


@in_strict_mode_too
def test_root_inside_does_not_get_the_tls_port(stage: AttackedCell) -> None:
    """Neither on its address nor on all; sharing it needs Envoy's user."""
    for address in (str(stage.api.address), ""):
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            assert not run_in(stage.api.pin, partial(_takes, address, option))
    assert stage.web.get_tls(stage.api) == f"hello {stage.web.address}\n"


def _takes(address: str, option: int) -> bool:
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
        return outcome_of(lambda: made.bind((address, TLS_PORT))) is Connected


def test_root_inside_with_the_number_of_envoys_user_does_not_keep_the_tls_port() -> None:
    """The kernel lets it bind beside Envoy, and gives it a part of the calls until the agent's next look."""
    with (
        attacked_cell("nft", kind=VigilantCell) as stage,
        beside_envoy(stage.cell.envoy_pid, stage.api.pin, address=str(stage.api.address), port=TLS_PORT),
    ):
        repair = f"Envoy's port 61443 of {stage.api.name} cleared of another program's socket"
        eventually(lambda: repair in [each.text("what") for each in stage.cell.status().at("last_repairs").each()])
        assert all(_answers(stage.web, stage.api) for _ in range(40))


@in_strict_mode_too
def test_agent_envoy_and_dns_listen_on_no_port_but_their_own(stage: AttackedCell, backend: str) -> None:
    """But for a moment, as the agent's own question to dnsmasq, and what a test before has left to the next look."""
    ours = {TLS_PORT, OUTBOUND, INBOUND} if backend == STRICT else {TLS_PORT}
    becomes({DNS}, lambda: _ports(stage.host))
    becomes({8080, 7000, *ours}, lambda: _ports(stage.api))
    becomes({8080, *ours}, lambda: _ports(stage.mallory))


def _ports(place: Node) -> set[int]:
    def lines() -> Iterator[list[str]]:
        for name in ("tcp", "tcp6", "udp", "udp6"):
            yield from (line.split() for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:])

    found = run_in(place.pin, lambda: list(lines()))
    return {int(words[1].rpartition(":")[2], 16) for words in found if words[3] in (LISTEN, "07")}


@once
def test_the_agents_lock_cannot_be_seen_or_taken_from_inside(stage: AttackedCell) -> None:
    names = Path(f"/proc/{stage.cell.agent_pid}/net/unix").read_text()
    assert "@cellnet-agent" in names
    assert "cellnet" not in run_in(stage.mallory.pin, lambda: Path("/proc/thread-self/net/unix").read_text())
    with closing(run_in(stage.mallory.pin, lambda: _named("\0cellnet-agent"))):
        stage.cell.kill("agent", again=True)
        stage.cell.wait_well()


def _named(name: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(name)
    made.listen()
    return made


def asleep(pin: Path) -> list[Process]:
    return [each for each in in_namespaces([NamespaceId.of(pin)]) if each.command[:1] == ("sleep",)]


@once
def test_an_app_inherits_nothing_of_the_agents(stage: AttackedCell) -> None:
    """Descriptors of namespaces, netlink sockets or the control socket would be ways out."""
    app = stage.another()
    eventually(lambda: len(asleep(app.pin)) == 1)
    (process,) = asleep(app.pin)
    open_ones = {int(each.name): os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
    assert not [each for each in open_ones.values() if each.startswith(("socket:", "net:", "anon_inode:"))], open_ones


@in_strict_mode_too
@pytest.mark.timeout(60)
@pytest.mark.usefixtures("many_files")
def test_a_flood_of_half_open_handshakes_leaves_room_for_the_others(stage: AttackedCell) -> None:
    other = stage.cell.run_app("acme/shop/other", name="flooded-not", port=8080, server=True)
    stage.extra.append(other.stop)
    stage.cell.policy_file("flood.yaml", FLOOD + "- {from: acme/shop/web, to: acme/shop/other, tcp: [61443]}\n")
    stage.extra.append(lambda: stage.cell.remove_policy_file("flood.yaml"))
    assert stage.web.get_tls(other) == f"hello {stage.web.address}\n"
    with contextlib.ExitStack() as stack:
        flood = run_in(stage.mallory.pin, lambda: _half_open(stage.api, CONNECTIONS + 1_000, stack))
        eventually(lambda: sum(_ended(each) for each in flood) >= 500)  # the rest is turned away at once
        assert stage.web.get_tls(other) == f"hello {stage.web.address}\n"
        assert stage.web.connect(stage.api, 8080) is Connected
    eventually(lambda: _answers(stage.web, stage.api))  # the flood is over


def _half_open(target: Instance, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    made = []
    for _ in range(count):
        each = stack.enter_context(closing(socket.socket()))
        each.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            each.connect((str(target.address), TLS_PORT))
        made.append(each)
    return made


def _ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _answers(caller: Instance, target: Instance) -> bool:
    try:
        return caller.get_tls(target) == f"hello {caller.address}\n"
    except (OSError, ssl.SSLError):
        return False
