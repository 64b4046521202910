"""Which callers may use which ports of a workload, as an RBAC filter that Envoy gets by itself: policies touch no listener.

Everything else that a caller in a tunnel has to fulfil is in the listener (`admission.py`), and was judged before.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3 import rbac_pb2 as rules
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy, Principal, SourcedMetadata
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.rbac.principals.mtls_authenticated.v3.mtls_authenticated_pb2 import Config as Authenticated
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.number_pb2 import DoubleMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher
from envoy.type.v3.range_pb2 import DoubleRange

from dataplane.envoy.resource import packed
from dataplane.state import Allow

# Where `admission.py` puts the port that a caller asks for, as a number
METADATA, PORT = "cellnet", "port"
ANY: Final = (1, 65535)

Ranges = tuple[tuple[int, int], ...]


def nothing() -> RBAC:
    """What is in force until the rights have come: no caller passes."""
    return RBAC(rules=rules.RBAC(action=rules.RBAC.ALLOW))


def caller_rights(
    name: str, allows: Iterable[Allow], *, principals: Mapping[int, str], group_principals: Mapping[str, str]
) -> TypedExtensionConfig:
    """The TCP rights in `allows`. A tag or a group without a SPIFFE id has none."""
    exact: dict[str, list[tuple[int, int]]] = {}
    prefixes: dict[str, list[tuple[int, int]]] = {}
    for allow in sorted(allows):
        if allow.protocol != "tcp":
            continue
        found = group_principals.get(allow.group) if allow.group else principals.get(allow.tag)
        if found:
            (prefixes if allow.group else exact).setdefault(found, []).append((allow.first, allow.last))
    policies = dict(_by_ports(exact, prefixes))
    return TypedExtensionConfig(
        name=name, typed_config=packed(RBAC(rules=rules.RBAC(action=rules.RBAC.ALLOW, policies=policies)))
    )


def _by_ports(
    exact: Mapping[str, list[tuple[int, int]]], prefixes: Mapping[str, list[tuple[int, int]]]
) -> Iterator[tuple[str, Policy]]:
    """One for all callers of the same ports, named after these."""
    found: dict[Ranges, list[Principal]] = {}
    for ids, is_prefix in ((exact, False), (prefixes, True)):
        for identity, allowed in sorted(ids.items()):
            found.setdefault(tuple(sorted(allowed)), []).append(_caller(identity, is_prefix=is_prefix))
    for ranges, callers in sorted(found.items()):
        name = ",".join(f"{first}-{last}" for first, last in ranges)
        yield name, Policy(principals=callers, permissions=_asked_for(ranges))


@lru_cache(maxsize=65_536)
def _caller(identity: str, *, is_prefix: bool) -> Principal:
    """By the SPIFFE id in the certificate, and by nothing that could stand in for it, such as a DNS name."""
    matcher = StringMatcher(prefix=identity) if is_prefix else StringMatcher(exact=identity)
    wanted = Authenticated(san_matcher=SubjectAltNameMatcher(san_type=SubjectAltNameMatcher.URI, matcher=matcher))
    return Principal(custom=TypedExtensionConfig(name="envoy.rbac.principals.mtls_authenticated", typed_config=packed(wanted)))


def _asked_for(ranges: Ranges) -> list[Permission]:
    if ANY in ranges:
        return [Permission(any=True)]
    return [asked_for(first, last) for first, last in ranges]


@lru_cache(maxsize=4096)
def asked_for(first: int, last: int) -> Permission:
    """The port that a caller asks for is one of these."""
    within = DoubleMatcher(range=DoubleRange(start=first, end=last + 1))
    matcher = MetadataMatcher(
        filter=METADATA, path=[MetadataMatcher.PathSegment(key=PORT)], value=ValueMatcher(double_match=within)
    )
    return Permission(sourced_metadata=SourcedMetadata(metadata_matcher=matcher))
