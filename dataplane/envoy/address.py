"""A workload's socket addresses as Envoy writes them: explicit, and inside the workload's own network namespace."""

from ipaddress import IPv4Address
from pathlib import Path

from envoy.config.core.v3.address_pb2 import Address, BindConfig, SocketAddress


def suffix(address: IPv4Address) -> str:
    """8 hex digits: what makes the names of a workload's resources unique."""
    return f"{int(address):08x}"


def inside(pin: Path, *, address: IPv4Address, port: int) -> Address:
    """A socket address in the namespace pinned at `pin`."""
    return Address(socket_address=SocketAddress(address=str(address), port_value=port, network_namespace_filepath=str(pin)))


def target(address: IPv4Address, *, port: int) -> Address:
    """Where to connect to; the namespace is that of the connection's source."""
    return Address(socket_address=SocketAddress(address=str(address), port_value=port))


def dialled_from(pin: Path) -> BindConfig:
    """Open connections inside the namespace. The address is only a stand-in: original source puts the caller's in place."""
    source = SocketAddress(address="127.0.0.1", port_value=0, network_namespace_filepath=str(pin))
    return BindConfig(source_address=source)
