"""How many TCP connections are open at a container's app: those that it serves, and those that it has made.

With mutual TLS both ends of an app's connection are in its own namespace. What counts is the app's end, so a call through a
tunnel counts as one, and Envoy's own sockets, tunnels among them, as none.
"""

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address

from dataplane.flows.inside import inside_each
from dataplane.flows.sockdiag import OPEN, Socket, tcp_sockets
from dataplane.state import Workload
from host.netlink.messages import SocketState


def open_connections(workloads: Collection[Workload], *, own_ports: Collection[int]) -> Mapping[IPv4Address, int]:
    """By overlay address; a container whose namespace is gone is left out. `own_ports` are those of Envoy.

    Raises HostRefused.
    """
    found = inside_each(workloads, lambda workload: tcp_sockets(local=workload.address))
    return {workload.address: _counted(sockets, own_ports) for workload, sockets in found}


def _counted(sockets: Iterable[Socket], own_ports: Collection[int]) -> int:
    return sum(_is_open(each) and not {each.local_port, each.remote_port} & set(own_ports) for each in sockets)


def _is_open(each: Socket) -> bool:
    """What a process has let go of and only waits for the other end's last word is over."""
    is_over = each.state is SocketState.FIN_WAIT_2 and not each.inode
    return bool(OPEN >> each.state & 1) and not is_over
