"""What Envoy tells the agent of what it refuses: streams, connections, and tunnels of its own that it gives up. Little else.

Streams that only an audit lets in are told, too, once they are there, in a log of their own: they keep no refusal waiting.
Each of Envoy's workers sends it over the agent's socket. It buffers little: what the agent does not take in time is dropped and
counted (`access_logs.` among the counters that are kept). The other end is `access_log_service.py`.
"""

from collections.abc import Collection
from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    DurationFilter,
    ExtensionFilter,
    LogTypeFilter,
    MetadataFilter,
    OrFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy.config.core.v3.base_pb2 import RuntimeUInt32
from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType
from envoy.extensions.access_loggers.filters.cel.v3.cel_pb2 import ExpressionFilter
from envoy.extensions.access_loggers.grpc.v3.als_pb2 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
    TcpGrpcAccessLogConfig,
)
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher
from envoy.type.tracing.v3.custom_tag_pb2 import CustomTag
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from dataplane.envoy.ads.resource import packed

# The cluster that is the agent's socket
AGENT: Final = "agent"
# How long a refusal waits in a worker for others, and how many bytes of them do
FLUSH: Final = Duration(nanos=200_000_000)
BUFFER_BYTES: Final = 32 * 1024
# What is not among an entry's own fields, by the names under which `refusal.py` looks for it
CALLER, PROVED, CLOSED, PROTOCOL = "caller", "proved", "closed", "protocol"
EQ, GE, LE = ComparisonFilter.EQ, ComparisonFilter.GE, ComparisonFilter.LE
_TAGS: Final = (
    CustomTag(tag=CALLER, value="%DOWNSTREAM_PEER_URI_SAN%"),
    CustomTag(tag=PROVED, value="%DOWNSTREAM_PEER_IP_SAN%"),
    CustomTag(tag=CLOSED, value="%DOWNSTREAM_LOCAL_CLOSE_REASON%"),
    CustomTag(tag=PROTOCOL, request_header=CustomTag.Header(name=":protocol")),
)
# What TLS refuses, and connections that are closed before any of their bytes is read, or lead nowhere. An expression takes
# Envoy's main thread 1.5 ms for each listener: only where there is no other way to leave out most connections.
_REFUSED: Final = "request.size == 0 || connection.transport_failure_reason != ''"
# Streams without an answer are those of which the codec could make nothing, and those that callers have reset
_NONE, _FIRST, _LAST = 0, 400, 499
# The app has as many connections as it may; Envoy has as much memory as it may
_CROWDED: Final = ("UO", "OM")
_BY_ENVOY: Final = "response.code == 403 && response.code_details.startsWith('rbac')"
# Where Envoy's filters leave which of their policies has let a stream in
RBAC, POLICY_ID = "envoy.filters.http.rbac", "enforced_effective_policy_id"
# What logs are called, by which the agent knows them
REFUSED, AUDITED = "refused", "audited"
# A stream has come to be; it has ended
BEGUN, _END = AccessLogType.DownstreamTunnelSuccessfullyEstablished, AccessLogType.DownstreamEnd
# The app does not take the connection
UNANSWERED: Final = ("UF",)
# A tunnel that does not come to be
_FAILED: Final = ("UF", "URX")


def refused_streams() -> AccessLog:
    """Of a connection manager: streams that are refused, and those for which there is no room."""
    refused = _all_of(_status(GE, _FIRST), _status(LE, _LAST))
    found = _any_of(refused, _all_of(_status(EQ, _NONE), _at(_END)), _flags(_CROWDED))
    wanted = HttpGrpcAccessLogConfig(common_config=_to_the_agent())
    return AccessLog(name="streams", filter=found, typed_config=packed(wanted))


def audited_streams(policy: str) -> AccessLog:
    """Of a connection manager: streams that came to be, or whose app did not answer, let in by a policy of its last filter."""
    path = [MetadataMatcher.PathSegment(key=POLICY_ID)]
    value = ValueMatcher(string_match=StringMatcher(exact=policy))
    by_audit = MetadataFilter(
        matcher=MetadataMatcher(filter=RBAC, path=path, value=value), match_if_key_not_found=BoolValue(value=False)
    )
    found = _all_of(_any_of(_at(BEGUN), _flags(UNANSWERED)), AccessLogFilter(metadata_filter=by_audit))
    wanted = HttpGrpcAccessLogConfig(common_config=_to_the_agent(AUDITED))
    return AccessLog(name=AUDITED, filter=found, typed_config=packed(wanted))


def refused_calls() -> AccessLog:
    """Of a listener that takes calls, each in a connection of its own."""
    return _connections("calls", _where(_REFUSED))


def refused_requests() -> AccessLog:
    """Of a connection manager whose app may refuse requests, too."""
    return AccessLog(
        name="requests", filter=_where(_BY_ENVOY), typed_config=packed(HttpGrpcAccessLogConfig(common_config=_to_the_agent()))
    )


def ended_tunnels() -> AccessLog:
    """Of a listener that takes tunnels, which are few: those that were refused are among them."""
    return _connections("tunnels", None)


def brief_calls() -> AccessLog:
    """Of a listener without TLS: what it refuses is over within a millisecond, as some other connections are."""
    brief = ComparisonFilter(op=LE, value=_number(0))
    return _connections("brief", AccessLogFilter(duration_filter=DurationFilter(comparison=brief)))


def failed_tunnels() -> AccessLog:
    """Of where a workload's own connections enter tunnels: such as those to a server that is not the one that was meant."""
    return _connections("failed", _flags(_FAILED))


def _connections(name: str, found: AccessLogFilter | None) -> AccessLog:
    wanted = packed(TcpGrpcAccessLogConfig(common_config=_to_the_agent()))
    return AccessLog(name=name, filter=found, typed_config=wanted)


def _where(expression: str) -> AccessLogFilter:
    wanted = packed(ExpressionFilter(expression=expression))
    name = "envoy.access_loggers.extension_filters.cel"
    return AccessLogFilter(extension_filter=ExtensionFilter(name=name, typed_config=wanted))


def _all_of(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(and_filter=AndFilter(filters=filters))


def _any_of(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(or_filter=OrFilter(filters=filters))


def _at(moment: AccessLogType) -> AccessLogFilter:
    return AccessLogFilter(log_type_filter=LogTypeFilter(types=[moment]))


def _status(comparison: ComparisonFilter.Op, status: int) -> AccessLogFilter:
    return AccessLogFilter(
        status_code_filter=StatusCodeFilter(comparison=ComparisonFilter(op=comparison, value=_number(status)))
    )


def _number(value: int) -> RuntimeUInt32:
    return RuntimeUInt32(default_value=value, runtime_key="cellnet.unset")


def _flags(flags: Collection[str]) -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=flags))


def _to_the_agent(name: str = REFUSED) -> CommonGrpcAccessLogConfig:
    return CommonGrpcAccessLogConfig(
        log_name=name,
        transport_api_version=ApiVersion.V3,
        grpc_service=GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=AGENT)),
        buffer_flush_interval=FLUSH,
        buffer_size_bytes=UInt32Value(value=BUFFER_BYTES),
        custom_tags=_TAGS,
    )
