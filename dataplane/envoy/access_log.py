"""What Envoy tells the agent of what it refuses: streams, connections, and tunnels of its own that it gives up. Nothing else.

Each of Envoy's workers sends it over the agent's socket. It buffers little: what the agent does not take in time is dropped and
counted (`access_logs.` among the counters that are kept). The other end is `access_log_service.py`.
"""

from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLog,
    AccessLogFilter,
    ExtensionFilter,
    OrFilter,
    ResponseFlagFilter,
)
from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.extensions.access_loggers.filters.cel.v3.cel_pb2 import ExpressionFilter
from envoy.extensions.access_loggers.grpc.v3.als_pb2 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
    TcpGrpcAccessLogConfig,
)
from envoy.type.tracing.v3.custom_tag_pb2 import CustomTag
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from dataplane.envoy.resource import packed

# The cluster that is the agent's socket
AGENT: Final = "agent"
# How long a refusal waits in a worker for others, and how many bytes of them do
FLUSH: Final = Duration(nanos=200_000_000)
BUFFER_BYTES: Final = 32 * 1024
# What is not among an entry's own fields, by the names under which `refusal.py` looks for it
CALLER, PROVED, CLOSED, PROTOCOL = "caller", "proved", "closed", "protocol"
_TAGS: Final = (
    CustomTag(tag=CALLER, value="%DOWNSTREAM_PEER_URI_SAN%"),
    CustomTag(tag=PROVED, value="%DOWNSTREAM_PEER_IP_SAN%"),
    CustomTag(tag=CLOSED, value="%DOWNSTREAM_LOCAL_CLOSE_REASON%"),
    CustomTag(tag=PROTOCOL, request_header=CustomTag.Header(name=":protocol")),
)
# Nothing is read from a connection that is closed ahead of TLS; what TLS refuses has a reason
_CONNECTION: Final = "request.size == 0 || connection.transport_failure_reason != ''"
_TUNNEL: Final = "upstream.transport_failure_reason != ''"
# What the codec refuses has a reason of its own, and perhaps no answer
_STREAM: Final = "response.code >= 400 && response.code < 500 || response.code_details.startsWith('http2.')"
# The app has as many connections as it may; Envoy has as much memory as it may
_CROWDED: Final = ("UO", "OM")


def refused_streams() -> AccessLog:
    """Of a connection manager: streams that are refused, and those for which there is no room."""
    crowded = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=_CROWDED))
    return AccessLog(
        name="streams",
        filter=AccessLogFilter(or_filter=OrFilter(filters=[_where(_STREAM), crowded])),
        typed_config=packed(HttpGrpcAccessLogConfig(common_config=_to_the_agent())),
    )


def refused_connections() -> AccessLog:
    """Of a listener: connections that are closed before any of their bytes is read."""
    return _connections("connections", _CONNECTION)


def failed_tunnels() -> AccessLog:
    """Of where a workload's own connections enter tunnels: those to a server that is not the one that was meant."""
    return _connections("tunnels", _TUNNEL)


def _connections(name: str, expression: str) -> AccessLog:
    wanted = TcpGrpcAccessLogConfig(common_config=_to_the_agent())
    return AccessLog(name=name, filter=_where(expression), typed_config=packed(wanted))


def _where(expression: str) -> AccessLogFilter:
    wanted = packed(ExpressionFilter(expression=expression))
    name = "envoy.access_loggers.extension_filters.cel"
    return AccessLogFilter(extension_filter=ExtensionFilter(name=name, typed_config=wanted))


def _to_the_agent() -> CommonGrpcAccessLogConfig:
    return CommonGrpcAccessLogConfig(
        log_name="refused",
        transport_api_version=ApiVersion.V3,
        grpc_service=GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=AGENT)),
        buffer_flush_interval=FLUSH,
        buffer_size_bytes=UInt32Value(value=BUFFER_BYTES),
        custom_tags=_TAGS,
    )
