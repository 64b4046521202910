"""The last of an attachment: what is ours inside a namespace that may live on is removed before its pin is.

By then the link has gone from the host's side, and Envoy's listener with its configuration. Connections of the address would
wait for answers for ever, and those of Envoy would keep the namespace alive until they have drained.
"""

from collections.abc import Collection
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from dataplane.flows import sockdiag
from dataplane.netlink import interior
from dataplane.network_set import NetworkSet
from host.errors import refused_as
from host.namespace import is_pin, run_in


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


def clear_namespace(pin: Path, *, address: IPv4Address) -> None:
    """Reset all TCP connections from and to `address` inside, and remove Envoy's ways. Does nothing if the pin has gone.

    Raises HostRefused.
    """
    if not is_pin(pin):
        return

    def inside() -> None:
        # Envoy's ends to the app too: they have callers' addresses, so what they send last would never be answered
        sockdiag.destroy(sockdiag.tcp_sockets(local=address) + sockdiag.tcp_sockets(remote=address))

    with refused_as(f"cannot clean up in {pin}", hint="see the kernel's log"):
        run_in(pin, inside)
        interior.clear(pin)
