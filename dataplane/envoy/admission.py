"""What every stream in a tunnel must fulfil before it is asked for its rights: filters of HTTP that never change.

CONNECT and nothing else, to this workload's own address and none of Envoy's ports, by a caller whose certificate carries the
address that it comes from (`address_tie.py`). No header of a caller counts but these two.
"""

import re
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address
from typing import Final

from envoy.config.rbac.v3 import rbac_pb2 as rules
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy, SourcedMetadata
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.filters.http.header_to_metadata.v3.header_to_metadata_pb2 import Config as ToMetadata
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.regex_pb2 import RegexMatchAndSubstitute, RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from dataplane.envoy.address_tie import tied
from dataplane.envoy.ads.resource import packed
from dataplane.envoy.caller_rights import METADATA, PORT, ports

ADMITTED: Final = "tunnel"
"""The one policy that lets a stream on to the judges of its rights."""
PORT_DIGITS: Final = "[1-9][0-9]{0,4}"


def admission(address: IPv4Address, *, reserved: Collection[int]) -> Iterator[HttpFilter]:
    """The filters, in their order."""
    yield HttpFilter(name="envoy.filters.http.header_to_metadata", typed_config=packed(_port_as_number()))
    yield HttpFilter(name="admission", typed_config=packed(_admitted(address, reserved)))


def _port_as_number() -> ToMetadata:
    """RBAC compares ranges of numbers only in metadata."""
    digits = RegexMatchAndSubstitute(pattern=RegexMatcher(regex=f"^[0-9.]+:({PORT_DIGITS})$"), substitution="\\1")
    pair = ToMetadata.KeyValuePair(metadata_namespace=METADATA, key=PORT, type=ToMetadata.NUMBER, regex_value_rewrite=digits)
    return ToMetadata(request_rules=[ToMetadata.Rule(header=":authority", on_header_present=pair)])


def _admitted(address: IPv4Address, reserved: Collection[int]) -> RBAC:
    own = f"{re.escape(str(address))}:{PORT_DIGITS}"
    required = [
        _header(":method", StringMatcher(exact="CONNECT")),
        _header(":authority", StringMatcher(safe_regex=RegexMatcher(regex=own))),
        _asked_for(1, 65535),
        Permission(not_rule=Permission(header=HeaderMatcher(name=":protocol", present_match=True))),
        *(Permission(not_rule=_asked_for(port, port)) for port in sorted(reserved)),
    ]
    policy = Policy(
        permissions=[Permission(and_rules=Permission.Set(rules=required))],
        principals=[tied()],
    )
    return RBAC(rules=rules.RBAC(action=rules.RBAC.ALLOW, policies={ADMITTED: policy}))


def _header(name: str, value: StringMatcher) -> Permission:
    return Permission(header=HeaderMatcher(name=name, string_match=value))


def _asked_for(first: int, last: int) -> Permission:
    matcher = MetadataMatcher(filter=METADATA, path=[MetadataMatcher.PathSegment(key=PORT)], value=ports(first, last))
    return Permission(sourced_metadata=SourcedMetadata(metadata_matcher=matcher))
