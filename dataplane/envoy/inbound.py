"""Where the tunnels to a workload end: each stream is judged, and goes on to the port it asks for with its caller's address."""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from envoy.config.cluster.v3.cluster_pb2 import Cluster, UpstreamConnectionOptions
from envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions as CommonOptions
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.original_src.v3.original_src_pb2 import OriginalSrc
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy.extensions.upstreams.tcp.v3.tcp_protocol_options_pb2 import TcpProtocolOptions
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from dataplane.envoy import tls
from dataplane.envoy.access_log import audited_streams, ended_tunnels, refused_streams
from dataplane.envoy.address_tie import tie
from dataplane.envoy.admission import admission
from dataplane.envoy.ads.resource import packed
from dataplane.envoy.cluster import POOL_IDLE, dial_limits, keepalive
from dataplane.envoy.container_socket import STAT_PREFIX, dialled_from, fair_share, handshake_rate, listening
from dataplane.envoy.http import HEADERS_TIMEOUT, NO_ADDRESS
from dataplane.envoy.limits import APP_BUFFER, FORGOTTEN, HANDSHAKE, TUNNEL_BUFFER, TUNNEL_HEADERS
from dataplane.envoy.rights_filters import BY_AUDIT, rights_filters
from dataplane.envoy.tunnel import http2
from dataplane.state import InboundListener
from dataplane.tables import TUNNEL_MARK

_Manager = HttpConnectionManager
CONNECT = "CONNECT"
OPTIONS = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions"


def inbound_listener(
    name: str,
    served: InboundListener,
    *,
    address: IPv4Address,
    pin: Path,
    leaf_name: str,
    cluster_name: str,
    rights_names: Sequence[str],
) -> Listener:
    """On `address` in the namespace at `pin`: the end of tunnels; the shards `rights_names` judge their streams."""
    filters = [
        *admission(address, reserved=served.reserved),
        *rights_filters(rights_names),
        HttpFilter(name="envoy.filters.http.original_src", typed_config=packed(OriginalSrc(mark=TUNNEL_MARK))),
        HttpFilter(name="envoy.filters.http.router", typed_config=packed(Router(suppress_envoy_headers=True))),
    ]
    made = listening(name, address=address, port=served.port, pin=pin, buffer=TUNNEL_BUFFER)
    made.access_log.append(ended_tunnels())
    made.filter_chains.append(
        FilterChain(
            # in this order: Envoy (1.40) takes those that the rate refuses from a count that they were never in, and then none
            # gets in for good
            filters=[
                fair_share(),
                handshake_rate(),
                tie(),
                _streams(filters, cluster_name=cluster_name, longest=served.longest),
            ],
            transport_socket=tls.tunnel_server(leaf_name=leaf_name),
            transport_socket_connect_timeout=HANDSHAKE,
        )
    )
    return made


def _streams(filters: Collection[HttpFilter], *, cluster_name: str, longest: int) -> Filter:
    manager = _Manager(
        stat_prefix=STAT_PREFIX,
        codec_type=_Manager.HTTP2,
        http2_protocol_options=http2(connect=True),
        common_http_protocol_options=CommonOptions(max_connection_duration=Duration(seconds=longest)),
        upgrade_configs=[_Manager.UpgradeConfig(upgrade_type=CONNECT)],
        route_config=_everything_to(cluster_name),
        http_filters=filters,
        # no caller is trusted with Envoy's internal headers
        use_remote_address=BoolValue(value=True),
        internal_address_config=_Manager.InternalAddressConfig(cidr_ranges=[NO_ADDRESS]),
        generate_request_id=BoolValue(value=False),
        # zero is never: keepalive finds the dead ones
        stream_idle_timeout=Duration(),
        request_headers_timeout=HEADERS_TIMEOUT,
        access_log=[refused_streams(), audited_streams(BY_AUDIT)],
        access_log_options=_Manager.HcmAccessLogOptions(flush_log_on_tunnel_successfully_established=True),
        max_request_headers_kb=UInt32Value(value=TUNNEL_HEADERS),
    )
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=packed(manager))


def _everything_to(cluster_name: str) -> RouteConfiguration:
    upgrade = RouteAction.UpgradeConfig(upgrade_type=CONNECT, connect_config=RouteAction.UpgradeConfig.ConnectConfig())
    action = RouteAction(cluster=cluster_name, timeout=Duration(), idle_timeout=Duration(), upgrade_configs=[upgrade])
    route = Route(match=RouteMatch(connect_matcher=RouteMatch.ConnectMatcher()), route=action)
    host = VirtualHost(name="app", domains=["*"], routes=[route])
    return RouteConfiguration(name="app", virtual_hosts=[host], validate_clusters=BoolValue(value=False))


def inbound_cluster(name: str, *, pin: Path) -> Cluster:
    """The app, on the address and port that `admission` has judged, dialled from inside its namespace.

    Connections that were made for callers who had gone by then are closed: Envoy itself keeps them for ten minutes.
    """
    return Cluster(
        name=name,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=Duration(seconds=2),
        cleanup_interval=FORGOTTEN,
        original_dst_lb_config=Cluster.OriginalDstLbConfig(use_http_header=True, http_header_name=":authority"),
        per_connection_buffer_limit_bytes=UInt32Value(value=APP_BUFFER),
        circuit_breakers=dial_limits(),
        upstream_bind_config=dialled_from(pin),
        upstream_connection_options=UpstreamConnectionOptions(tcp_keepalive=keepalive()),
        typed_extension_protocol_options={OPTIONS: packed(TcpProtocolOptions(idle_timeout=POOL_IDLE))},
    )
