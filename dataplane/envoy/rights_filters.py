"""The listener's part of its callers' rights: a filter for each shard of them, and one that lets in whom any shard allows.

A shard (`caller_rights.py`) refuses nothing by itself. It writes its answer into the stream's metadata, where no caller can
write, and the last filter reads it. So a shard that has not come, or that Envoy has refused, costs only its own callers.

Envoy tries the last filter's policies in the order of their names, and keeps the name of the one by which a stream is let in:
that of audits only where no shard lets it in by a right (`access_log.py` has what becomes of it).
"""

from collections.abc import Iterator, Sequence

from envoy.config.core.v3.config_source_pb2 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    ExtensionConfigSource,
)
from envoy.config.rbac.v3 import rbac_pb2 as rules
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy, Principal, SourcedMetadata
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher

from dataplane.envoy.ads.resource import packed
from dataplane.envoy.caller_rights import RIGHT, answers_of, no_rights
from dataplane.envoy.tls import SECRET_TIMEOUT

# Where Envoy's filter puts a shard's answer: whether it lets a stream in, and by which of its rights
ANSWERS, ANSWER, YES, BY = "envoy.filters.http.rbac", "shadow_engine_result", "allowed", "shadow_effective_policy_id"
# Policies of the last filter, in this order
BY_RIGHT, BY_AUDIT = "rights", "rights-audit"


def rights_filters(names: Sequence[str]) -> Iterator[HttpFilter]:
    """The filters, in their order; `names` are those of the shards."""
    yield from (_shard(name, number) for number, name in enumerate(names))
    answers = {BY_RIGHT: (BY, RIGHT), BY_AUDIT: (ANSWER, YES)}
    policies = {
        name: Policy(permissions=[_said(number, *answer) for number in range(len(names))], principals=[Principal(any=True)])
        for name, answer in answers.items()
    }
    allowed = rules.RBAC(action=rules.RBAC.ALLOW, policies=policies)
    yield HttpFilter(name="rights", typed_config=packed(RBAC(rules=allowed)))


def _shard(name: str, number: int) -> HttpFilter:
    """The listener waits for it; where it does not come it allows no caller."""
    by_ads = ConfigSource(
        ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3, initial_fetch_timeout=SECRET_TIMEOUT
    )
    source = ExtensionConfigSource(
        config_source=by_ads,
        default_config=packed(no_rights(number)),
        type_urls=[f"type.googleapis.com/{RBAC.DESCRIPTOR.full_name}"],
    )
    return HttpFilter(name=name, config_discovery=source)


def _said(number: int, key: str, value: str) -> Permission:
    path = [MetadataMatcher.PathSegment(key=f"{answers_of(number)}{key}")]
    yes = ValueMatcher(string_match=StringMatcher(exact=value))
    return Permission(sourced_metadata=SourcedMetadata(metadata_matcher=MetadataMatcher(filter=ANSWERS, path=path, value=yes)))
