"""A workload's TLS port, held for Envoy: nobody in the namespace can take it before Envoy has it, or while Envoy is away.

Envoy (1.40) that fails to bind in a namespace stays in there with its main thread, so it must not come to that. What holds
the port is a socket of Envoy's own user that is bound with SO_REUSEPORT and never listens: beside it the kernel lets only that
user bind, and connections go to who listens.
"""

import errno
import os
import socket
from ipaddress import IPv4Address

from dataplane.envoy.listening import ContainerPort
from host.errors import HostRefused
from host.namespace import run_in

IP_FREEBIND = 15  # of Linux: the address may not be there yet


def reserve(port: ContainerPort, *, uid: int) -> socket.socket:
    """Hold `port` for user `uid`, until the socket is closed.

    Raises HostRefused if somebody else has it, or if the namespace cannot be entered.
    """
    try:
        return run_in(port.pin, lambda: _bound(port.address, port.number, uid=uid))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise HostRefused(
                f"cannot hold port {port.number} in {port.pin}: {error.strerror}", hint="is the container still there?"
            ) from error
        hint = "cellnet terminates TLS there: let the container's process use another port, see `ss -ltn` inside"
        raise HostRefused(f"port {port.number} is in use in the namespace already", hint=hint) from error


def _bound(address: IPv4Address, port: int, *, uid: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        os.fchown(made.fileno(), uid, -1)  # whose socket it is for the kernel
        # not SO_REUSEADDR: whoever sets that too could then bind beside it
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        made.bind((str(address), port))
    except OSError:
        made.close()
        raise
    return made
