"""When a workload's TLS port really is open: LISTEN in the socket table of its namespace.

Envoy acknowledges a listener before it has bound it (up to 10 ms before, with a new secret), and one whose secret never
comes too. Only the kernel knows.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from dataplane.flows.sockdiag import listeners, listening
from host.errors import HostRefused, Unavailable
from host.namespace import NamespaceThread, enter

LOOK_AGAIN = 0.002


@dataclass(frozen=True, slots=True, order=True)
class ContainerPort:
    """Where Envoy listens: a TCP port of an address in the network namespace pinned at `pin`."""

    address: IPv4Address
    number: int
    pin: Path


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
    try:
        thread = NamespaceThread(port.pin, name="listening")
    except OSError as error:
        raise HostRefused(f"cannot enter the namespace at {port.pin}: {error}") from error
    try:
        end = clock() + timeout
        while not thread.call(lambda: listening(port.address, port.number)):
            if clock() >= end:
                what = f"nothing listens on {port.address}:{port.number} after {timeout:g} s"
                raise Unavailable(what, hint="see Envoy's log")
            sleep(LOOK_AGAIN)
    finally:
        thread.close()


def not_open(ports: Collection[ContainerPort], *, sockets: int) -> frozenset[ContainerPort]:
    """Those of `ports` where fewer than so many sockets listen. Blocks; meant for a worker thread.

    A namespace that cannot be entered is left out: it is on its way out.
    """
    thread = NamespaceThread(name="not-open")  # one for all of them: it is a tenth of a millisecond from one to the next
    try:
        found = {port: thread.call(partial(_opened, port)) for port in ports}
    finally:
        thread.close()
    return frozenset(port for port, count in found.items() if count is not None and count < sockets)


def _opened(port: ContainerPort) -> int | None:
    try:
        enter(port.pin)
        return listeners(port.address, port.number)
    except OSError:  # HostRefused is one
        return None
