"""A certificate counts only from the address that it carries: another's key is of no use elsewhere.

The address is what ties a certificate to the kernel's tag: anti-spoofing ties the tag to it. What the handshake proved is put
beside the connection's own address, in the connection's state, where nothing that a caller writes has a place. The two are
compared once for each connection; where anything is missing, the answer is no.

Not by a condition of RBAC: each of these takes 40 KB, for it brings a whole CEL of its own.
"""

from ipaddress import IPv4Address

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.rbac.v3.rbac_pb2 import Principal
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.network.set_filter_state.v3.set_filter_state_pb2 import Config as FilterState
from envoy.type.matcher.v3.filter_state_pb2 import FilterStateMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from dataplane.envoy.ads.resource import packed

# Names in a connection's state. CEL reads what stands there as bytes.
PROVED, CAME_FROM, ID, TIED = "cellnet.proved", "cellnet.from", "cellnet.id", "cellnet.tied"
IS_TIED = f"filter_state['{PROVED}'] == filter_state['{CAME_FROM}']"
NAMES_NO_APP = f"filter_state['{ID}'] == b''"
YES = "yes"
_FACTS = (
    (PROVED, "%DOWNSTREAM_PEER_IP_SAN%"),  # several stand there with commas, and equal no address
    (CAME_FROM, "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
    (ID, "%DOWNSTREAM_PEER_URI_SAN%"),
)
_DESTINATION = "envoy.network.transport_socket.original_dst_address"
_ANY_PORT = 1  # the cluster has its own


def tie() -> Filter:
    """Ahead of tunnels: a connection is tied whose certificate carries its address."""
    return _after_the_handshake(_text(f"%CEL({IS_TIED} ? '{YES}' : '')%", name=TIED, kind="envoy.string"))


def tie_of_apps() -> Filter:
    """Ahead of HTTP on the port for TLS: a connection is tied, too, that shows no certificate, or none with a SPIFFE id."""
    return _after_the_handshake(_text(f"%CEL({IS_TIED} || {NAMES_NO_APP} ? '{YES}' : '')%", name=TIED, kind="envoy.string"))


def destination_if_tied(address: IPv4Address) -> Filter:
    """The same ahead of plain TCP. A cluster of type ORIGINAL_DST dials `address`, or nowhere."""
    where = f"%CEL({IS_TIED} || {NAMES_NO_APP} ? '{address}:{_ANY_PORT}' : '')%"
    return _after_the_handshake(_text(where, name=_DESTINATION))


def tied() -> Principal:
    """For RBAC of HTTP: the caller of a connection that is tied."""
    return Principal(filter_state=FilterStateMatcher(key=TIED, string_match=StringMatcher(exact=YES)))


def _text(text: str, *, name: str, kind: str = "") -> FilterStateValue:
    """What `text` comes to, under a name that says by itself of which kind it is, or of this one. Empty it is no address."""
    formatted = SubstitutionFormatString(text_format_source=DataSource(inline_string=text), omit_empty_values=True)
    return FilterStateValue(object_key=name, factory_key=kind, format_string=formatted, skip_if_empty=not kind)


def _after_the_handshake(last: FilterStateValue) -> Filter:
    """The facts, and what follows from them, one after the other.

    The field is `on_downstream_tls_handshake`, which Envoy 1.40 knows and xds-protos 1.85 does not.
    """
    first, second = b"\x0a", b"\x12"  # tags of the field that is known, and of the one that is meant
    values = [*(_text(text, name=name, kind="envoy.string") for name, text in _FACTS), last]
    fields = [FilterState(on_new_connection=[each]).SerializeToString(deterministic=True) for each in values]
    assert all(each.startswith(first) for each in fields)
    meant = FilterState.FromString(b"".join(second + each.removeprefix(first) for each in fields))
    return Filter(name="envoy.filters.network.set_filter_state", typed_config=packed(meant))
