"""Where Envoy forwards to: the target port on the workload's own overlay address, dialled from inside its namespace."""

from ipaddress import IPv4Address
from pathlib import Path

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster, UpstreamConnectionOptions
from envoy.config.core.v3.address_pb2 import Address, SocketAddress, TcpKeepalive
from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions, Http2ProtocolOptions
from envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions as CommonOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from dataplane.envoy.ads.resource import packed
from dataplane.envoy.container_socket import dialled_from
from dataplane.envoy.limits import BUFFER, CONNECTIONS, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, STREAMS
from dataplane.state import TargetHttp

# Many servers close an idle connection after 5 s. We close first, so that no request is sent into a closing one.
POOL_IDLE = Duration(seconds=4)
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def target_cluster(name: str, *, address: IPv4Address, port: int, pin: Path, http: TargetHttp) -> Cluster:
    """The app, on one port of its address; it is spoken to as `http` says, whatever version of HTTP the caller speaks.

    Of plain TCP each connection says by itself whether it has an address to go to (`address_tie.py`).
    """
    made = Cluster(
        name=name,
        connect_timeout=Duration(seconds=1),
        per_connection_buffer_limit_bytes=UInt32Value(value=BUFFER),
        circuit_breakers=dial_limits(),
        # which is the namespace that is dialled in, too
        upstream_bind_config=dialled_from(pin),
        upstream_connection_options=UpstreamConnectionOptions(tcp_keepalive=keepalive()),
    )
    if not http:
        made.type, made.lb_policy = Cluster.ORIGINAL_DST, Cluster.CLUSTER_PROVIDED
        made.original_dst_lb_config.upstream_port_override.value = port
        return made
    app = LbEndpoint(endpoint=Endpoint(address=Address(socket_address=SocketAddress(address=str(address), port_value=port))))
    made.type = Cluster.STATIC
    made.load_assignment.MergeFrom(
        ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[app])])
    )
    made.typed_extension_protocol_options[OPTIONS].CopyFrom(_spoken(http))
    return made


def dial_limits(*, connections: int = CONNECTIONS) -> CircuitBreakers:
    """Envoy's defaults end at 1,024 requests, which a busy app reaches."""
    most, streams = UInt32Value(value=connections), UInt32Value(value=STREAMS)
    return CircuitBreakers(
        thresholds=[CircuitBreakers.Thresholds(max_connections=most, max_pending_requests=streams, max_requests=streams)]
    )


def keepalive() -> TcpKeepalive:
    """What finds an app, or a peer, that has vanished."""
    return TcpKeepalive(
        keepalive_time=UInt32Value(value=KEEPALIVE_IDLE),
        keepalive_interval=UInt32Value(value=KEEPALIVE_INTERVAL),
        keepalive_probes=UInt32Value(value=KEEPALIVE_PROBES),
    )


def _spoken(http: TargetHttp) -> AnyMessage:
    explicit = HttpProtocolOptions.ExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())
    if http is TargetHttp.HTTP2:
        explicit = HttpProtocolOptions.ExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    options = HttpProtocolOptions(
        common_http_protocol_options=CommonOptions(idle_timeout=POOL_IDLE), explicit_http_config=explicit
    )
    return packed(options)
