"""Where a workload's own TCP enters tunnels: what the redirect in its namespace sends here goes on to where it was meant to go.

One stream of HTTP/2 CONNECT for each connection, in tunnels that are shared by all of one workload's connections to one other.
Nothing of a protocol is looked at: the side that speaks first may be either.
"""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster, UpstreamConnectionOptions
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions as CommonOptions
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.network.set_filter_state.v3.set_filter_state_pb2 import Config as FilterState
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import DestinationIPInput
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import StringValue, UInt32Value
from xds.core.v3.cidr_pb2 import CidrRange
from xds.core.v3.extension_pb2 import TypedExtensionConfig
from xds.type.matcher.v3.ip_pb2 import IPMatcher
from xds.type.matcher.v3.matcher_pb2 import Matcher

from dataplane.envoy import tls
from dataplane.envoy.access_log import brief_calls, failed_tunnels
from dataplane.envoy.ads.resource import packed
from dataplane.envoy.cluster import OPTIONS, dial_limits, keepalive
from dataplane.envoy.container_socket import STAT_PREFIX, call_rate, dialled_from, fair_share, listening
from dataplane.envoy.limits import APP_BUFFER, FORGOTTEN, TUNNEL_BUFFER, TUNNEL_IDLE, TUNNEL_REQUESTS, TUNNELS
from dataplane.envoy.tunnel import http2
from dataplane.state import INBOUND_PORT

LOOPBACK: Final = IPv4Address("127.0.0.1")
INTO_TUNNELS: Final = "tunnels"  # the name of a listener's filters
_Tunneling = TcpProxy.TunnelingConfig


def outbound_listener(name: str, *, port: int, parts: Collection[IPv4Network], pin: Path, cluster_name: str) -> Listener:
    """On 127.0.0.1:`port` in the namespace at `pin`: into a tunnel to where a connection was meant to go.

    What was not redirected here, from an address in one of the `parts` of the overlay, is closed before Envoy learns of that
    address: it keeps each that it has heard of for a while, and root inside may redirect what it likes. When the parts are
    others Envoy changes the way to the filters and no more, so no connection notices.
    """
    made = listening(name, address=LOOPBACK, port=port, pin=pin, buffer=APP_BUFFER)
    original = ListenerFilter(name="envoy.filters.listener.original_dst", typed_config=packed(OriginalDst()))
    made.listener_filters.append(original)
    made.access_log.append(brief_calls())
    made.filter_chain_matcher.CopyFrom(_leading_to(parts))
    made.filter_chains.append(
        FilterChain(
            name=INTO_TUNNELS,
            filters=[fair_share(), call_rate(), _expected_address(), _into_a_tunnel(cluster_name)],
        )
    )
    return made


def _leading_to(parts: Collection[IPv4Network]) -> Matcher:
    """To the one chain of filters for what was meant to go to one of these, and else to none."""
    ranges = [
        CidrRange(address_prefix=str(each.network_address), prefix_len=UInt32Value(value=each.prefixlen))
        for each in sorted(parts)
    ]
    to_filters = Matcher.OnMatch(
        action=TypedExtensionConfig(name=INTO_TUNNELS, typed_config=packed(StringValue(value=INTO_TUNNELS)))
    )
    within = IPMatcher(range_matchers=[IPMatcher.IPRangeMatcher(ranges=ranges, on_match=to_filters)])
    tree = Matcher.MatcherTree(
        input=TypedExtensionConfig(name="destination", typed_config=packed(DestinationIPInput())),
        custom_match=TypedExtensionConfig(name="within", typed_config=packed(within)),
    )
    return Matcher(matcher_tree=tree)


def _expected_address() -> Filter:
    """The server's certificate must carry the address that was dialled."""
    value = FilterStateValue(
        object_key="envoy.network.upstream_subject_alt_names",
        format_string=SubstitutionFormatString(
            text_format_source=DataSource(inline_string="%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%")
        ),
        shared_with_upstream=FilterStateValue.ONCE,
    )
    return Filter(name="envoy.filters.network.set_filter_state", typed_config=packed(FilterState(on_new_connection=[value])))


def _into_a_tunnel(cluster_name: str) -> Filter:
    proxy = TcpProxy(
        stat_prefix=STAT_PREFIX,
        cluster=cluster_name,
        tunneling_config=_Tunneling(hostname="%DOWNSTREAM_LOCAL_ADDRESS%"),
        access_log=[failed_tunnels()],
        # zero is never: a database's connection may be idle for days, and keepalive finds the dead ones
        idle_timeout=Duration(),
    )
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))


def outbound_cluster(name: str, *, address: IPv4Address, pin: Path, leaf_name: str, longest: int) -> Cluster:
    """Tunnels from `address` to wherever a connection was meant to go; one takes new streams for `longest` seconds."""
    common = CommonOptions(
        idle_timeout=TUNNEL_IDLE,
        max_connection_duration=Duration(seconds=longest),
        max_requests_per_connection=UInt32Value(value=TUNNEL_REQUESTS),
    )
    explicit = HttpProtocolOptions.ExplicitHttpConfig(http2_protocol_options=http2())
    options = HttpProtocolOptions(common_http_protocol_options=common, explicit_http_config=explicit)
    return Cluster(
        name=name,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=Duration(seconds=2),
        cleanup_interval=FORGOTTEN,
        original_dst_lb_config=Cluster.OriginalDstLbConfig(upstream_port_override=UInt32Value(value=INBOUND_PORT)),
        per_connection_buffer_limit_bytes=UInt32Value(value=TUNNEL_BUFFER),
        circuit_breakers=dial_limits(connections=TUNNELS),
        upstream_bind_config=dialled_from(pin, source=str(address)),
        upstream_connection_options=UpstreamConnectionOptions(tcp_keepalive=keepalive()),
        transport_socket=tls.tunnel_client(leaf_name=leaf_name),
        typed_extension_protocol_options={OPTIONS: packed(options)},
    )
