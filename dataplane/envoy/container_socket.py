"""A socket of Envoy in a container's namespace, as every listener has one: what comes before TLS and any protocol."""

from ipaddress import IPv4Address
from pathlib import Path

from envoy.config.core.v3.address_pb2 import Address, BindConfig, SocketAddress
from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.core.v3.socket_option_pb2 import SocketOption
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.connection_limit.v3.connection_limit_pb2 import ConnectionLimit
from envoy.extensions.filters.network.local_ratelimit.v3.local_rate_limit_pb2 import LocalRateLimit
from envoy.type.v3.token_bucket_pb2 import TokenBucket
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value, UInt64Value

from dataplane.envoy import limits
from dataplane.envoy.ads.resource import packed
from dataplane.envoy.limits import (
    BACKLOG,
    CALLS_A_SECOND,
    CALLS_AT_ONCE,
    CONNECTIONS,
    HANDSHAKES_A_SECOND,
    HANDSHAKES_AT_ONCE,
)

# One prefix for all workloads: nothing reads these counters, and 250 names of them cost memory.
STAT_PREFIX = "workload"
FILLS_A_SECOND = 10
# Linux: level and number of SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT; accepted sockets inherit them.
_KEEPALIVE = ((1, 9, 1), (6, 4, limits.KEEPALIVE_IDLE), (6, 5, limits.KEEPALIVE_INTERVAL), (6, 6, limits.KEEPALIVE_PROBES))


def listening(name: str, *, address: IPv4Address, port: int, pin: Path, buffer: int) -> Listener:
    """On `address`:`port` in the namespace at `pin`, without any filter yet; `buffer` bytes are read ahead of a slow peer."""
    return Listener(
        name=name,
        stat_prefix=STAT_PREFIX,
        address=Address(
            socket_address=SocketAddress(address=str(address), port_value=port, network_namespace_filepath=str(pin))
        ),
        per_connection_buffer_limit_bytes=UInt32Value(value=buffer),
        tcp_backlog_size=UInt32Value(value=BACKLOG),
        # one at a turn: a worker that takes a whole flood at once does nothing else meanwhile, not even hear of the tunnel that
        # the first of them has opened to where all want to go
        max_connections_to_accept_per_socket_event=UInt32Value(value=1),
        # root inside may take the address away at any time; what then happens to Envoy: sockets/container_ports.py
        freebind=BoolValue(value=True),
        traffic_direction=TrafficDirection.INBOUND,
        socket_options=[
            SocketOption(level=level, name=number, int_value=value, state=SocketOption.STATE_PREBIND)
            for level, number, value in _KEEPALIVE
        ],
    )


def fair_share() -> Filter:
    """Ahead of the handshake, so that one workload's flood of half-open ones leaves room for the others."""
    limit = ConnectionLimit(stat_prefix=STAT_PREFIX, max_connections=UInt64Value(value=CONNECTIONS))
    return Filter(name="envoy.filters.network.connection_limit", typed_config=packed(limit))


def handshake_rate() -> Filter:
    """Ahead of the handshake, too: what it would take of a processor is the others'."""
    return _rate(at_once=HANDSHAKES_AT_ONCE, a_second=HANDSHAKES_A_SECOND)


def call_rate() -> Filter:
    """Ahead of what a workload's own calls lead to."""
    return _rate(at_once=CALLS_AT_ONCE, a_second=CALLS_A_SECOND)


def _rate(*, at_once: int, a_second: int) -> Filter:
    """So many at once, and so many a second after that."""
    bucket = TokenBucket(
        max_tokens=at_once,
        tokens_per_fill=UInt32Value(value=a_second // FILLS_A_SECOND),
        fill_interval=Duration(nanos=10**9 // FILLS_A_SECOND),
    )
    limit = LocalRateLimit(stat_prefix=STAT_PREFIX, token_bucket=bucket)
    return Filter(name="envoy.filters.network.local_ratelimit", typed_config=packed(limit))


def dialled_from(pin: Path, *, source: str = "127.0.0.1") -> BindConfig:
    """Open connections inside the namespace. Where original source puts the caller's address in place, this is a stand-in."""
    return BindConfig(source_address=SocketAddress(address=source, port_value=0, network_namespace_filepath=str(pin)))
