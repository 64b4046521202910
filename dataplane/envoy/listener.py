"""A workload's TLS port: a socket in its namespace, TLS in front, the app behind, and the caller's address in between."""

from ipaddress import IPv4Address
from pathlib import Path

from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.core.v3.socket_option_pb2 import SocketOption
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.listener.original_src.v3.original_src_pb2 import OriginalSrc
from envoy.extensions.filters.network.connection_limit.v3.connection_limit_pb2 import ConnectionLimit
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy, UpstreamConnectMode
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value, UInt64Value

from dataplane.envoy import http, limits, tls
from dataplane.envoy.limits import BACKLOG, BUFFER, CONNECTIONS, EARLY_BYTES, HANDSHAKE
from dataplane.envoy.resource import packed
from dataplane.tables import ORIGINAL_SOURCE_MARK

# One prefix for all workloads: nothing reads these counters, and 250 names of them cost memory.
STAT_PREFIX = "workload"
# Linux: level and number of SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT; accepted sockets inherit them.
_KEEPALIVE = ((1, 9, 1), (6, 4, limits.KEEPALIVE_IDLE), (6, 5, limits.KEEPALIVE_INTERVAL), (6, 6, limits.KEEPALIVE_PROBES))


def tls_listener(
    name: str, *, address: IPv4Address, port: int, pin: Path, leaf_name: str, cluster_name: str, is_http: bool
) -> Listener:
    """Terminate TLS on `address`:`port` in the namespace at `pin` and hand each connection, or request, to the cluster."""
    forward = http.requests(cluster_name) if is_http else _bytes(cluster_name)
    chain = FilterChain(
        filters=[_fair_share(), forward],
        transport_socket=tls.server(leaf_name=leaf_name, alpn=http.ALPN if is_http else ()),
        transport_socket_connect_timeout=HANDSHAKE,
    )
    return Listener(
        name=name,
        stat_prefix=STAT_PREFIX,
        address=Address(
            socket_address=SocketAddress(address=str(address), port_value=port, network_namespace_filepath=str(pin))
        ),
        listener_filters=[_original_source()],
        filter_chains=[chain],
        per_connection_buffer_limit_bytes=UInt32Value(value=BUFFER),
        tcp_backlog_size=UInt32Value(value=BACKLOG),
        # root inside may take the address away at any time; what then happens to Envoy: container_ports.py
        freebind=BoolValue(value=True),
        traffic_direction=TrafficDirection.INBOUND,
        socket_options=[
            SocketOption(level=level, name=number, int_value=value, state=SocketOption.STATE_PREBIND)
            for level, number, value in _KEEPALIVE
        ],
    )


def _original_source() -> ListenerFilter:
    wanted = OriginalSrc(mark=ORIGINAL_SOURCE_MARK)
    return ListenerFilter(name="envoy.filters.listener.original_src", typed_config=packed(wanted))


def _fair_share() -> Filter:
    """Ahead of the handshake, so that one workload's flood of half-open ones leaves room for the others."""
    limit = ConnectionLimit(stat_prefix=STAT_PREFIX, max_connections=UInt64Value(value=CONNECTIONS))
    return Filter(name="envoy.filters.network.connection_limit", typed_config=packed(limit))


def _bytes(cluster_name: str) -> Filter:
    """Plain TCP. The app is dialled only after the handshake: a caller whose certificate is refused never reaches it."""
    proxy = TcpProxy(
        stat_prefix=STAT_PREFIX,
        cluster=cluster_name,
        upstream_connect_mode=UpstreamConnectMode.ON_DOWNSTREAM_TLS_HANDSHAKE,
        max_early_data_bytes=UInt32Value(value=EARLY_BYTES),
        # zero is never: a database's connection may be idle for days, and keepalive finds the dead ones
        idle_timeout=Duration(),
    )
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))
