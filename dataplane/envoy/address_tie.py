"""On the port for TLS a certificate of ours counts only from the address that it carries: another's key is of no use there.

What the handshake proved is put beside the connection's own address, and the two are compared once for each connection. A
caller that shows no certificate passes, and one whose certificate has no SPIFFE id: then it is not an app's. Where anything
is missing, the answer is no.
"""

from ipaddress import IPv4Address

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.rbac.v3 import rbac_pb2 as rules
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy, Principal
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.filters.network.set_filter_state.v3.set_filter_state_pb2 import Config as FilterState
from envoy.type.matcher.v3.filter_state_pb2 import FilterStateMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from dataplane.envoy.resource import packed

# Names in a connection's state. CEL reads what stands there as bytes.
PROVED, CAME_FROM, ID, TIED = "cellnet.proved", "cellnet.from", "cellnet.id", "cellnet.tied"
FACTS = (
    (PROVED, "%DOWNSTREAM_PEER_IP_SAN%"),  # several stand there with commas, and equal no address
    (CAME_FROM, "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
    (ID, "%DOWNSTREAM_PEER_URI_SAN%"),
)
IS_TIED = f"filter_state['{PROVED}'] == filter_state['{CAME_FROM}'] || filter_state['{ID}'] == b''"
DESTINATION = "envoy.network.transport_socket.original_dst_address"
ANY_PORT = 1  # the cluster has its own


def facts() -> Filter:
    """Ahead of HTTP: what `only_tied` asks for."""
    return _after_the_handshake(_text(f"%CEL({IS_TIED} ? 'yes' : 'no')%", name=TIED, kind="envoy.string"))


def only_tied() -> HttpFilter:
    """403 to each request of a connection that is not tied."""
    tied = FilterStateMatcher(key=TIED, string_match=StringMatcher(exact="yes"))
    policy = Policy(permissions=[Permission(any=True)], principals=[Principal(filter_state=tied)])
    allowed = rules.RBAC(action=rules.RBAC.ALLOW, policies={"tied": policy})
    return HttpFilter(name="address tie", typed_config=packed(RBAC(rules=allowed)))


def destination(address: IPv4Address) -> Filter:
    """Ahead of plain TCP: where a cluster of type ORIGINAL_DST dials, which is nowhere where the connection is not tied."""
    return _after_the_handshake(_text(f"%CEL({IS_TIED} ? '{address}:{ANY_PORT}' : '')%", name=DESTINATION))


def _text(text: str, *, name: str, kind: str = "") -> FilterStateValue:
    """What `text` comes to, under a name that says by itself of which kind it is, or of this one. Empty it is no address."""
    formatted = SubstitutionFormatString(text_format_source=DataSource(inline_string=text), omit_empty_values=True)
    return FilterStateValue(object_key=name, factory_key=kind, format_string=formatted, skip_if_empty=not kind)


def _after_the_handshake(value: FilterStateValue) -> Filter:
    """The facts, and what follows from them.

    The field is `on_downstream_tls_handshake`, which Envoy 1.40 knows and xds-protos 1.85 does not.
    """
    first, second = b"\x0a", b"\x12"  # tags of the field that is known, and of the one that is meant
    values = [*(_text(text, name=name, kind="envoy.string") for name, text in FACTS), value]
    fields = [FilterState(on_new_connection=[each]).SerializeToString(deterministic=True) for each in values]
    assert all(each.startswith(first) for each in fields)
    meant = FilterState.FromString(b"".join(second + each.removeprefix(first) for each in fields))
    return Filter(name="envoy.filters.network.set_filter_state", typed_config=packed(meant))
