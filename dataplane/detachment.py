"""The last of an attachment: what is ours inside a namespace that may live on is removed before its pin is.

By then the link has gone from the host's side, and Envoy's listener with its configuration. Connections of the address would
wait for answers for ever, and those of Envoy would keep the namespace alive until they have drained.
"""

import time
from collections.abc import Collection
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from dataplane.flows import sockdiag
from dataplane.netlink import interior
from dataplane.network_set import NetworkSet
from host.errors import refused_as
from host.namespace import is_pin, run_in

CLOSING_SECONDS = 1.0
LOOK_AGAIN = 0.002


def reset_remote_connections(pin: Path, *, address: IPv4Address, beyond: Collection[IPv4Network]) -> None:
    """Reset the TCP connections of `address` with other cells, whose networks are `beyond`: no rule there would cut them.

    A namespace that has gone had none.
    """
    networks = NetworkSet(beyond)

    def inside() -> None:
        found = sockdiag.tcp_sockets(local=address)
        sockdiag.destroy([each for each in found if isinstance(each.remote, IPv4Address) and each.remote in networks])

    if beyond:
        with suppress(OSError):
            run_in(pin, inside)


def clear_namespace(pin: Path, *, address: IPv4Address, envoy: int) -> None:
    """Reset all TCP connections from and to `address` inside, and all that the user `envoy` has; remove Envoy's ways.

    Blocks until Envoy listens there no more: it closes its listeners a moment after it has given its word. Those of an Envoy
    that does not are destroyed. Does nothing if the pin has gone. Raises HostRefused.
    """
    if not is_pin(pin):
        return

    def inside() -> None:
        end = time.monotonic() + CLOSING_SECONDS
        while (left := _listeners_of(envoy)) and time.monotonic() < end:
            time.sleep(LOOK_AGAIN)
        for port in {each.local_port for each in left}:
            sockdiag.destroy_listeners(port, [each for each in left if each.local_port == port])
        # Envoy's ends to the app have callers' addresses, so what they send last would never be answered; its ends to the app's
        # own calls are at 127.0.0.1, and others may be at an address that root inside has taken away since
        sockdiag.destroy(
            [each for each in sockdiag.tcp_sockets() if each.owner == envoy or address in (each.local, each.remote)]
        )

    with refused_as(f"cannot clean up in {pin}", hint="see the kernel's log"):
        run_in(pin, inside)
        interior.clear(pin)


def _listeners_of(user: int) -> list[sockdiag.Socket]:
    return [each for each in sockdiag.all_listeners() if each.owner == user]
