"""The ports that Envoy has in containers' namespaces: held for it, awaited, and looked after, in the kernel's socket tables.

A port is held before Envoy has it and while Envoy is away, so that no program in the namespace can take it: Envoy (1.40) that
fails to bind in a namespace stays in there with its main thread. What holds it is a socket of Envoy's own user that is bound
with SO_REUSEPORT and never listens: beside it the kernel lets only that user bind, and connections go to the one that listens.

A port is open when a socket there is in state LISTEN: Envoy acknowledges a listener before it has bound it (up to 10 ms before,
with a new secret), and one whose secret never comes too.
"""

import errno
import os
import socket
import time
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from dataplane.flows.sockdiag import accepted, listeners, listening
from host.errors import HostRefused, Unavailable, refused_as
from host.namespace import NamespaceThread, enter, run_in

IP_FREEBIND = 15  # of Linux: the address may not be there yet
LOOK_AGAIN = 0.002


@dataclass(frozen=True, slots=True, order=True)
class ContainerPort:
    """Where Envoy listens: a TCP port of an address in the network namespace pinned at `pin`."""

    address: IPv4Address
    number: int
    pin: Path


class PortTaken(HostRefused):
    """A program in the namespace has the port."""


def reserve(port: ContainerPort, *, uid: int) -> socket.socket:
    """Hold `port` for user `uid`, until the socket is closed.

    Raises PortTaken if another socket has it, HostRefused if the namespace cannot be entered.
    """
    try:
        return run_in(port.pin, lambda: _bound(port, uid=uid))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise HostRefused(
                f"cannot hold port {port.number} in {port.pin}: {error.strerror}", hint="is the container still there?"
            ) from error
        hint = "cellnet terminates TLS there: let the container's process use another port, see `ss -ltn` inside"
        raise PortTaken(f"port {port.number} is in use in the namespace already", hint=hint) from error


def _bound(port: ContainerPort, *, uid: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        os.fchown(made.fileno(), uid, -1)  # the owner that the kernel compares
        # not SO_REUSEADDR: any socket that sets that too could then bind beside it
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        made.bind((str(port.address), port.number))
    except OSError:
        made.close()
        raise
    return made


def await_listening(
    port: ContainerPort,
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when Envoy listens there. Blocks; meant for a worker thread.

    Raises Unavailable after `timeout` seconds, HostRefused if the namespace cannot be entered.
    """
    with refused_as(f"cannot enter the namespace at {port.pin}"):
        made = NamespaceThread(port.pin, name="listening")
    with closing(made) as thread:
        end = clock() + timeout
        while not thread.call(lambda: listening(port.address, port.number)):
            if clock() >= end:
                what = f"nothing listens on {port.address}:{port.number} after {timeout:g} s"
                raise Unavailable(what, hint="see Envoy's log")
            sleep(LOOK_AGAIN)


def closed_ports(ports: Collection[ContainerPort], *, sockets: int) -> frozenset[ContainerPort]:
    """Those of `ports` where fewer than so many sockets listen. Blocks; meant for a worker thread.

    A namespace that cannot be entered is left out: it is on its way out.
    """
    with closing(NamespaceThread(name="closed-ports")) as thread:  # one for all of them: 0.1 ms from one to the next
        found = {port: thread.call(partial(_listeners, port)) for port in ports}
    return frozenset(port for port, count in found.items() if count is not None and count < sockets)


def connections(ports: Collection[ContainerPort]) -> int:
    """How many connections at `ports` are open. Blocks; meant for a worker thread.

    A namespace that cannot be entered is left out: it is on its way out.
    """
    with closing(NamespaceThread(name="connections")) as thread:
        return sum(thread.call(partial(_connections, port)) for port in ports)


def _connections(port: ContainerPort) -> int:
    try:
        enter(port.pin)
        return accepted(port.address, port.number)
    except OSError:  # HostRefused is one
        return 0


def _listeners(port: ContainerPort) -> int | None:
    try:
        enter(port.pin)
        return listeners(port.address, port.number)
    except OSError:  # HostRefused is one
        return None
