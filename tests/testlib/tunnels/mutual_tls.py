"""Modes of mutual TLS as an operator changes them, and what is to be seen of them in a cell and its containers."""

import re
import signal
import socket
from contextlib import suppress

from agent.client.answer import Fields
from agent.errors import Unavailable
from host.namespace import run_in
from lab.cell import Part
from tests.testlib.cell import CellUnderTest
from tests.testlib.node import Node
from tests.testlib.patience import eventually

OUTBOUND, INBOUND = 15001, 15008


def set_mode(cell: CellUnderTest, mode: str) -> None:
    """Write `tls.mtls` into its configuration, in which there must be one, and have another agent run by it. Envoy runs on."""
    path = cell.lab.policies.parent / "agent.yaml"
    path.write_text(re.sub(r"(?m)^  mtls: .*$", f"  mtls: {mode}", path.read_text()))
    restart_agent(cell)


def restart_agent(cell: CellUnderTest) -> None:
    """SIGTERM, and another one; it answers when this returns."""
    former = cell.lab.part(Part.AGENT)
    assert former is not None
    former.send(signal.SIGTERM)
    eventually(lambda: not former.lives)
    cell.lab.start()
    eventually(lambda: answers(cell))


def answers(cell: CellUnderTest) -> bool:
    """Whether there is an agent."""
    with suppress(Unavailable):
        return bool(cell.status().text("repairs"))
    return False


def mutual_tls(cell: CellUnderTest) -> Fields:
    """The row of its status."""
    return cell.status().at("mutual_tls")


def is_in_force(cell: CellUnderTest, mode: str) -> bool:
    """Whether it has come to this mode."""
    found = mutual_tls(cell)
    return found.text("mode") == mode and found.flag("in_force")


def tunnel_ends(container: Node) -> set[int]:
    """Those of Envoy's two ports for tunnels that something listens on."""
    found = container.run("ss", "-Hltn")
    return {
        port for port, address in ((OUTBOUND, "127.0.0.1"), (INBOUND, str(container.address))) if f"{address}:{port} " in found
    }


def can_take(container: Node, port: int) -> bool:
    """Whether root inside gets a port, by sharing it with whatever else shares."""

    def take() -> bool:
        with socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                made.bind(("0.0.0.0", port))
            except OSError:
                return False
            return True

    return run_in(container.pin, take)
