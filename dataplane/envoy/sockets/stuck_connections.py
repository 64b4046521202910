"""Connections in containers that hold Envoy's memory since one end of them does not read, and whose fault that is.

Envoy buffers for each about a megabyte at either end of its tunnel. It ends the dearest streams by itself as its heap fills
(`process/overload.py`), but only those that end here, and only while the heap goes on growing; what it has read from a tunnel
for a caller of this cell counts as no stream's. The kernel knows such connections: it asks an end that has no room from time
to time whether it has again, and it has bytes that Envoy does not fetch.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from dataplane.envoy.limits import APP_BUFFER
from dataplane.flows.sockdiag import PROBE, Socket, destroy, tcp_sockets
from dataplane.state import INBOUND_PORT, OUTBOUND_PORT
from host.namespace import NamespaceThread, enter

MUCH_UNREAD: Final = 2 * APP_BUFFER  # more than Envoy leaves for a moment


@dataclass(frozen=True, slots=True)
class StuckConnection:
    """Envoy's end of one, in the namespace at `pin`; `blamed` is the container that does not read.

    It is `seen` not to; else that follows from Envoy's not reading what is for it.
    """

    pin: Path
    blamed: IPv4Address
    seen: bool
    socket: Socket


def stuck_connections(containers: Mapping[IPv4Address, Path], *, envoy: int) -> tuple[StuckConnection, ...]:
    """Those of the user `envoy`, in the containers' namespaces by their addresses. Blocks; meant for a worker thread.

    A namespace that cannot be entered is on its way out, and left out.
    """
    with closing(NamespaceThread(name="stuck")) as thread:
        return tuple(
            StuckConnection(pin, blamed, each.timer == PROBE, each)
            for address, pin in containers.items()
            for each in thread.call(partial(_sockets, pin))
            if each.owner == envoy and (blamed := _blamed(each, address)) is not None
        )


def end(connections: Iterable[StuckConnection]) -> int:
    """Reset them; how many were still there. Blocks."""
    by_pin: dict[Path, list[Socket]] = {}
    for each in connections:
        by_pin.setdefault(each.pin, []).append(each.socket)
    with closing(NamespaceThread(name="stuck")) as thread:
        return sum(thread.call(partial(_destroyed, pin, sockets)) for pin, sockets in by_pin.items())


def _blamed(found: Socket, address: IPv4Address) -> IPv4Address | None:
    """None where it is not stuck."""
    if found.timer == PROBE:
        is_its_app = found.local_port == OUTBOUND_PORT or found.remote == address
        return address if is_its_app else _other(found.remote)
    if found.unread < MUCH_UNREAD or INBOUND_PORT in (found.local_port, found.remote_port):
        return None
    return address if found.local_port == OUTBOUND_PORT else _other(found.local)


def _other(address: object) -> IPv4Address | None:
    return address if isinstance(address, IPv4Address) else None


def _sockets(pin: Path) -> tuple[Socket, ...]:
    try:
        enter(pin)
        return tcp_sockets()
    except OSError:  # HostRefused is one
        return ()


def _destroyed(pin: Path, sockets: list[Socket]) -> int:
    try:
        enter(pin)
        return destroy(sockets)
    except OSError:  # HostRefused is one
        return 0
