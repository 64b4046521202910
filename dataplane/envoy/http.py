"""The HTTP side of a TLS port: requests keep everything the caller sent, except claims about the caller's identity."""

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation as Mutation
from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.rbac.v3 import rbac_pb2 as rules
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import HeaderMutation, Mutations
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from dataplane.envoy.access_log import refused_requests
from dataplane.envoy.address_tie import tied
from dataplane.envoy.ads.resource import packed
from dataplane.envoy.limits import BUFFER

ALPN = ("h2", "http/1.1")
# Long polls, event streams and WebSockets are silent for long; this only ends what is no longer wanted.
STREAM_IDLE = Duration(seconds=3600)
HEADERS_TIMEOUT = Duration(seconds=30)
CONCURRENT_STREAMS = 1000
# Names with other characters than letters, digits and hyphens (`:` begins HTTP/2's own). Servers that hand headers on as
# variables (CGI, WSGI, PHP, Rack) fold such characters into the hyphen's place: `X_Forwarded_Client_Cert` would pass for ours.
ODD_NAME = "[a-z0-9-]*[^a-z0-9:-].*"
# An empty list would mean every private address, the overlay's included.
NO_ADDRESS = CidrRange(address_prefix="0.0.0.0", prefix_len=UInt32Value(value=32))  # noqa: S104
_Manager = HttpConnectionManager


def requests(cluster_name: str) -> Filter:
    """HTTP/1.1 and HTTP/2, WebSocket included, to the cluster; X-Forwarded-Client-Cert names the verified caller."""
    manager = _Manager(
        stat_prefix="workload",
        codec_type=_Manager.AUTO,
        route_config=_everything_to(cluster_name),
        http_filters=[
            _from_where_they_belong(),
            HttpFilter(name="envoy.filters.http.header_mutation", typed_config=packed(_no_odd_names())),
            HttpFilter(name="envoy.filters.http.router", typed_config=packed(Router(suppress_envoy_headers=True))),
        ],
        forward_client_cert_details=_Manager.SANITIZE_SET,
        set_current_client_cert_details=_Manager.SetCurrentClientCertDetails(
            subject=BoolValue(value=True), cert=True, dns=True, uri=True
        ),
        # the caller's address is appended to X-Forwarded-For, and no caller is trusted with Envoy's internal headers
        use_remote_address=BoolValue(value=True),
        internal_address_config=_Manager.InternalAddressConfig(cidr_ranges=[NO_ADDRESS]),
        generate_request_id=BoolValue(value=False),
        preserve_external_request_id=True,
        server_header_transformation=_Manager.PASS_THROUGH,
        upgrade_configs=[_Manager.UpgradeConfig(upgrade_type="websocket")],
        http2_protocol_options=Http2ProtocolOptions(
            max_concurrent_streams=UInt32Value(value=CONCURRENT_STREAMS),
            initial_stream_window_size=UInt32Value(value=BUFFER),
            initial_connection_window_size=UInt32Value(value=4 * BUFFER),
        ),
        stream_idle_timeout=STREAM_IDLE,
        request_headers_timeout=HEADERS_TIMEOUT,
        access_log=[refused_requests()],
    )
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=packed(manager))


def _from_where_they_belong() -> HttpFilter:
    """403 to each request of a caller with an app's certificate from another address than that app's."""
    policy = Policy(permissions=[Permission(any=True)], principals=[tied()])
    allowed = rules.RBAC(action=rules.RBAC.ALLOW, policies={"tied": policy})
    return HttpFilter(name="address tie", typed_config=packed(RBAC(rules=allowed)))


def _no_odd_names() -> HeaderMutation:
    odd = StringMatcher(safe_regex=RegexMatcher(regex=ODD_NAME))
    removal = Mutation(remove_on_match=Mutation.RemoveOnMatch(key_matcher=odd))
    return HeaderMutation(mutations=Mutations(request_mutations=[removal]))


def _everything_to(cluster_name: str) -> RouteConfiguration:
    action = RouteAction(cluster=cluster_name, timeout=Duration())
    route = Route(match=RouteMatch(prefix="/"), route=action)
    host = VirtualHost(name="app", domains=["*"], routes=[route])
    return RouteConfiguration(
        name="app",
        virtual_hosts=[host],
        validate_clusters=BoolValue(value=False),
        # Envoy's own addition; X-Forwarded-For has the same in the usual form
        request_headers_to_remove=["x-envoy-external-address"],
    )
