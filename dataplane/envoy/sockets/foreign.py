"""Sockets on Envoy's ports in the containers' namespaces that are not Envoy's: found by their inodes, destroyed.

The reservation of a port (container_ports.py) keeps all users but Envoy's from it. Root inside can take that user's number and
then listen beside Envoy, and the kernel gives it a part of the connections. What tells its sockets from Envoy's is that Envoy
has no descriptor of them.
"""

import os
import socket
import struct
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from dataplane.envoy.sockets.container_ports import ContainerPort
from dataplane.flows.sockdiag import Socket, destroy, destroy_listeners, listeners_at, tcp_sockets
from host.namespace import NamespaceThread, enter

CONNECT_SECONDS = 1.0


class ForeignSockets:
    """`admin_socket` is Envoy's: the process that listens there is Envoy, and so are those at other sockets of its folder."""

    def __init__(self, admin_socket: Path) -> None:
        self._admin = admin_socket
        self._known: frozenset[bytes] = frozenset()  # Envoy's sockets of the last look: in a steady state no descriptor is read

    def destroy(self, ports: Collection[ContainerPort]) -> frozenset[ContainerPort]:
        """Destroy what listens at `ports` beside Envoy, with the connections that it has accepted; where there was some.

        Blocks; meant for a worker thread. Nothing is destroyed while it is uncertain which process is Envoy.
        """
        with closing(NamespaceThread(name="foreign-sockets")) as thread:
            found = {port: thread.call(partial(_listening, port)) for port in ports}
            seen = {each.id: each.inode for sockets in found.values() for each in sockets}
            self._known &= seen.keys()
            own = envoy_inodes(self._admin) if seen.keys() - self._known else None  # read after the sockets were listed
            if own is None:
                return frozenset()
            self._known |= {identity for identity, inode in seen.items() if inode in own}
            foreign = {port: [each for each in sockets if each.id not in self._known] for port, sockets in found.items()}
            strange = {port: sockets for port, sockets in foreign.items() if sockets}
            return frozenset(port for port, each in strange.items() if thread.call(partial(self._destroyed, port, each)))

    def _destroyed(self, port: ContainerPort, sockets: Collection[Socket]) -> bool:
        try:
            enter(port.pin)
            was_there = destroy_listeners(port.number, tuple(sockets))
            accepted = [each for each in tcp_sockets(local=port.address) if each.local_port == port.number and each.inode]
            own = envoy_inodes(self._admin)
            if own is not None:
                destroy([each for each in accepted if each.inode not in own])
        except OSError:  # HostRefused is one
            return False
        return was_there


def _listening(port: ContainerPort) -> tuple[Socket, ...]:
    """All that may take connections to `port`. A namespace that cannot be entered is on its way out."""
    try:
        enter(port.pin)
        return tuple(each for each in listeners_at(port.number) if each.local == port.address or each.local.is_unspecified)
    except OSError:  # HostRefused is one
        return ()


def envoy_inodes(admin_socket: Path) -> frozenset[int] | None:
    """The sockets that Envoy has descriptors of, or None where that is uncertain.

    With those of an Envoy that has handed over, or is about to take over: their admin sockets are beside this one.
    """
    links = list[str]()
    try:
        pids = listening_processes(admin_socket)
        for pid in pids:
            for name in os.listdir(f"/proc/{pid}/fd"):
                with suppress(FileNotFoundError):  # closed meanwhile
                    links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        if listening_processes(admin_socket) != pids:
            return None
    except OSError:
        return None
    return frozenset(int(each[len("socket:[") : -1]) for each in links if each.startswith("socket:["))


def listening_processes(admin_socket: Path) -> Sequence[int]:
    """Envoy, then those beside it. Raises OSError where Envoy itself does not listen."""
    found = [listening_process(admin_socket)]
    for each in sorted(admin_socket.parent.glob("*.sock")):
        if each != admin_socket:
            with suppress(ConnectionRefusedError, FileNotFoundError):  # it has ended
                found.append(listening_process(each))
    return found


def listening_process(path: Path) -> int:
    """The pid of what listens at a unix socket. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(CONNECT_SECONDS)
        link.connect(str(path))
        pid, _, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)
