"""What Envoy knows at its start: its cell's name, where the agent's socket is, how much it may take. The rest comes by ADS.

Written as JSON, because YAML would read a cell named `no` as false.
"""

from dataclasses import dataclass
from pathlib import Path

from envoy.config.bootstrap.v3.bootstrap_pb2 import (
    Admin,
    Bootstrap,
    LayeredRuntime,
    MemoryAllocatorManager,
    RuntimeLayer,
    Watchdog,
    Watchdogs,
)
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, Pipe
from envoy.config.core.v3.backoff_pb2 import BackoffStrategy
from envoy.config.core.v3.base_pb2 import Node, RetryPolicy
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.metrics.v3.stats_pb2 import StatsConfig, StatsMatcher
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from envoy.type.matcher.v3.string_pb2 import ListStringMatcher, StringMatcher
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from dataplane.envoy.access_log import AGENT
from dataplane.envoy.ads.resource import packed
from dataplane.envoy.ads.stream import STARTED
from dataplane.envoy.cluster import OPTIONS
from dataplane.envoy.process.overload import overload_manager

# Counters kept; those of 250 workloads, which nothing reads, cost more memory than the workloads.
STATS = ("server.", "listener_manager.", "cluster_manager.", "control_plane.", "overload.", "access_logs.")
# Envoy's makers do not defend the other codec of HTTP/2 against callers that attack it.
FEATURES = {"envoy.reloadable_features.http2_use_oghttp2": False}
# How soon Envoy looks for an agent that was restarted.
RECONNECT_FIRST = Duration(nanos=100_000_000)
RECONNECT_LAST = Duration(seconds=1)
# A thread that does not turn for so long is stuck for good: Envoy ends itself, and its supervisor starts it again. One
# that is only slow turns within seconds; no thread of ours ever waits for a disk or a name server.
STUCK_SECONDS = 60
# Bytes of free memory that go back to the host each second, when they were not needed for five minutes; else all that the
# busiest moment took is kept for ever.
GIVEN_BACK = 8 << 20


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """Where this Envoy lives: `cell` is its name, `ads` the agent's socket, `admin` the socket it makes, in its own directory.

    `started` is in seconds since the epoch: of two Envoys that run side by side it says which is the newer one.
    `connections` bounds those of all callers together, `memory` the heap, in bytes: see `overload.py`. `stuck` is in seconds.
    """

    cell: str
    ads: Path
    admin: Path
    connections: int
    memory: int
    started: float = 0.0
    stuck: int = STUCK_SECONDS


def bootstrap(settings: EnvoySettings) -> str:
    """Envoy's whole start-up configuration, one line of JSON without secrets."""
    by_ads = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
    node = Node(id=settings.cell, cluster="cellnet")
    node.metadata.update({STARTED: settings.started})
    message = Bootstrap(
        node=node,
        admin=Admin(address=Address(pipe=Pipe(path=str(settings.admin), mode=0o600))),
        static_resources=Bootstrap.StaticResources(clusters=[_agent(settings.ads)]),
        dynamic_resources=Bootstrap.DynamicResources(ads_config=_stream(), cds_config=by_ads, lds_config=by_ads),
        stats_config=_stats(),
        deferred_stat_options=Bootstrap.DeferredStatOptions(enable_deferred_creation_stats=True),
        overload_manager=overload_manager(connections=settings.connections, memory=settings.memory),
        memory_allocator_manager=MemoryAllocatorManager(
            bytes_to_release=GIVEN_BACK, memory_release_interval=Duration(seconds=1)
        ),
        watchdogs=_watchdogs(settings.stuck),
        layered_runtime=LayeredRuntime(layers=[_features()]),
    )
    return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)


def _stream() -> ApiConfigSource:
    again = RetryPolicy(retry_back_off=BackoffStrategy(base_interval=RECONNECT_FIRST, max_interval=RECONNECT_LAST))
    return ApiConfigSource(
        api_type=ApiConfigSource.DELTA_GRPC,
        transport_api_version=ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=AGENT, retry_policy=again))],
    )


def _agent(path: Path) -> Cluster:
    endpoint = LbEndpoint(endpoint=Endpoint(address=Address(pipe=Pipe(path=str(path)))))
    http2 = HttpProtocolOptions.ExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    return Cluster(
        name=AGENT,
        type=Cluster.STATIC,
        connect_timeout=Duration(seconds=1),
        load_assignment=ClusterLoadAssignment(cluster_name=AGENT, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]),
        typed_extension_protocol_options={OPTIONS: packed(HttpProtocolOptions(explicit_http_config=http2))},
    )


def _features() -> RuntimeLayer:
    layer = RuntimeLayer(name="features")
    layer.static_layer.update(FEATURES)
    return layer


def _watchdogs(seconds: int) -> Watchdogs:
    patience = Watchdog(kill_timeout=Duration(seconds=seconds))
    return Watchdogs(main_thread_watchdog=patience, worker_watchdog=patience)


def _stats() -> StatsConfig:
    kept = ListStringMatcher(patterns=[StringMatcher(prefix=prefix) for prefix in STATS])
    return StatsConfig(stats_matcher=StatsMatcher(inclusion_list=kept))
