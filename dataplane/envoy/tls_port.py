"""A workload's TLS port: a socket in its namespace, TLS in front, the app behind, and the caller's address in between."""

from ipaddress import IPv4Address
from pathlib import Path

from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.listener.original_src.v3.original_src_pb2 import OriginalSrc
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy, UpstreamConnectMode
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from dataplane.envoy import address_tie, http, tls
from dataplane.envoy.access_log import refused_calls
from dataplane.envoy.ads.resource import packed
from dataplane.envoy.container_socket import STAT_PREFIX, fair_share, listening
from dataplane.envoy.limits import BUFFER, EARLY_BYTES, HANDSHAKE
from dataplane.state import TlsListener
from dataplane.tables import ORIGINAL_SOURCE_MARK


def tls_listener(
    name: str, served: TlsListener, *, address: IPv4Address, pin: Path, leaf_name: str, cluster_name: str
) -> Listener:
    """Terminate TLS on `address` in the namespace at `pin` and hand each connection, or request, to the cluster."""
    tie, forward = address_tie.destination_if_tied(address), _bytes(cluster_name)
    if served.http:
        tie, forward = address_tie.tie_of_apps(), http.requests(cluster_name)
    chain = FilterChain(
        filters=[fair_share(), tie, forward],
        transport_socket=tls.server(leaf_name=leaf_name, alpn=http.ALPN if served.http else ()),
        transport_socket_connect_timeout=HANDSHAKE,
    )
    made = listening(name, address=address, port=served.port, pin=pin, buffer=BUFFER)
    made.listener_filters.append(_original_source())
    made.access_log.append(refused_calls())
    made.filter_chains.append(chain)
    return made


def _original_source() -> ListenerFilter:
    wanted = OriginalSrc(mark=ORIGINAL_SOURCE_MARK)
    return ListenerFilter(name="envoy.filters.listener.original_src", typed_config=packed(wanted))


def _bytes(cluster_name: str) -> Filter:
    """Plain TCP. The app is dialled only after the handshake: a caller whose certificate is refused never reaches it.

    Nor does one whose certificate is not tied to its address: the cluster then has nowhere to dial (`address_tie.py`).
    """
    proxy = TcpProxy(
        stat_prefix=STAT_PREFIX,
        cluster=cluster_name,
        upstream_connect_mode=UpstreamConnectMode.ON_DOWNSTREAM_TLS_HANDSHAKE,
        max_early_data_bytes=UInt32Value(value=EARLY_BYTES),
        # zero is never: a database's connection may be idle for days, and keepalive finds the dead ones
        idle_timeout=Duration(),
    )
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))
