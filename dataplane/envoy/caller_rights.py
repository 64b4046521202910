"""Which callers may use which ports of a workload: filters that Envoy gets by themselves, so that policies touch no listener.

They are in `SHARDS` resources, so that a change of one right among thousands is a small push; all rights of one app are in
one of them, and change at once. Callers are looked up, not compared one after the other: a new stream costs the same among
ten rights and among thousands. `rights_filters.py` has what the listener makes of a shard's answer.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3 import rbac_pb2 as rules
from envoy.config.rbac.v3.rbac_pb2 import Action
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import DynamicMetadataInput
from envoy.extensions.matching.common_inputs.ssl.v3.ssl_inputs_pb2 import UriSanInput
from envoy.extensions.matching.input_matchers.metadata.v3.metadata_pb2 import Metadata
from envoy.type.matcher.v3.number_pb2 import DoubleMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher
from envoy.type.v3.range_pb2 import DoubleRange
from google.protobuf.message import Message
from xds.core.v3.extension_pb2 import TypedExtensionConfig as XdsExtension
from xds.type.matcher.v3.matcher_pb2 import Matcher

from dataplane.envoy.ads.resource import packed
from dataplane.state import Allow

# Each is a subscription of each listener, and 12 KB of Envoy's memory
SHARDS: Final = 4
# Where `admission.py` puts the port that a caller asks for, as a number
METADATA, PORT = "cellnet", "port"
# A shard's answers: it lets a stream in by a right, or by an audit's, where it has no other
RIGHT, AUDIT = "yes", "audit"

Ranges = tuple[tuple[int, int], ...]
Rights = Mapping[str, Collection[tuple[int, int]]]


def sharded(allows: Iterable[Allow]) -> tuple[frozenset[Allow], ...]:
    """The TCP rights in `allows`, shard by shard. Those of groups, which are few, are all in the first."""
    found: tuple[list[Allow], ...] = tuple([] for _ in range(SHARDS))
    for allow in allows:
        if allow.protocol == "tcp":
            found[allow.tag % SHARDS].append(allow)
    return tuple(map(frozenset, found))


def answers_of(number: int) -> str:
    """What the names of a shard's answers begin with."""
    return f"{number}."


def no_rights(number: int) -> RBAC:
    """A shard that allows no caller; it says so, like any other."""
    return RBAC(shadow_rules=rules.RBAC(action=rules.RBAC.ALLOW), shadow_rules_stat_prefix=answers_of(number))


def caller_rights(
    name: str,
    number: int,
    allows: Collection[Allow],
    *,
    principals: Mapping[int, str],
    group_principals: Mapping[str, str],
) -> TypedExtensionConfig:
    """Shard `number`, of these rights. A tag or a group without a SPIFFE id has none."""
    matchers: list[Matcher.MatcherList.FieldMatcher] = []
    for answer in (RIGHT, AUDIT):  # in this order
        exact: dict[str, list[tuple[int, int]]] = {}
        prefixes: dict[str, list[tuple[int, int]]] = {}
        for allow in sorted(each for each in allows if each.audit is (answer == AUDIT)):
            found = group_principals.get(allow.group) if allow.group else principals.get(allow.tag)
            if found:
                (prefixes if allow.group else exact).setdefault(found, []).append((allow.first, allow.last))
        matchers += _by_ports(exact, prefixes, answer)
    # Envoy refuses an empty list
    made = no_rights(number)
    if matchers:
        callers = Matcher(matcher_list=Matcher.MatcherList(matchers=matchers))
        made = RBAC(shadow_matcher=callers, shadow_rules_stat_prefix=answers_of(number))
    return TypedExtensionConfig(name=name, typed_config=packed(made))


def _by_ports(exact: Rights, prefixes: Rights, answer: str) -> Iterator[Matcher.MatcherList.FieldMatcher]:
    """One for all callers of the same ports. They are tried one after the other, until one has both the port and the caller."""
    found: dict[Ranges, tuple[list[str], list[str]]] = {}
    for place, ids in enumerate((exact, prefixes)):
        for identity, allowed in ids.items():
            found.setdefault(tuple(allowed), ([], []))[place].append(identity)
    for ranges, callers in sorted(found.items()):
        yield Matcher.MatcherList.FieldMatcher(
            predicate=_asked_for(ranges), on_match=Matcher.OnMatch(matcher=_callers(*callers, answer))
        )


def _callers(exact: Collection[str], prefixes: Collection[str], answer: str) -> Matcher:
    """By the one SPIFFE id in the certificate, and by nothing that could stand in for it, such as a DNS name."""
    by_prefix = _tree(prefix_match_map=_yes_to(prefixes, answer))
    if not exact:
        return by_prefix
    # Envoy refuses an empty map, too
    others = Matcher.OnMatch(matcher=by_prefix) if prefixes else None
    return Matcher(matcher_tree=_tree(exact_match_map=_yes_to(exact, answer)).matcher_tree, on_no_match=others)


def _tree(**matched: Matcher.MatcherTree.MatchMap) -> Matcher:
    return Matcher(
        matcher_tree=Matcher.MatcherTree(input=_extension("envoy.matching.inputs.uri_san", UriSanInput()), **matched)
    )


def _yes_to(identities: Iterable[str], answer: str) -> Matcher.MatcherTree.MatchMap:
    yes = Matcher.OnMatch(action=_extension("yes", Action(name=answer, action=rules.RBAC.ALLOW)))
    return Matcher.MatcherTree.MatchMap(map=dict.fromkeys(identities, yes))


def _asked_for(ranges: Ranges) -> Matcher.MatcherList.Predicate:
    made = [_port_within(first, last) for first, last in ranges]
    if len(made) == 1:
        return made[0]
    return Matcher.MatcherList.Predicate(or_matcher=Matcher.MatcherList.Predicate.PredicateList(predicate=made))


@lru_cache(maxsize=4096)
def _port_within(first: int, last: int) -> Matcher.MatcherList.Predicate:
    asked = DynamicMetadataInput(filter=METADATA, path=[DynamicMetadataInput.PathSegment(key=PORT)])
    single = Matcher.MatcherList.Predicate.SinglePredicate(
        input=_extension("envoy.matching.inputs.dynamic_metadata", asked),
        custom_match=_extension("envoy.matching.matchers.metadata_matcher", Metadata(value=ports(first, last))),
    )
    return Matcher.MatcherList.Predicate(single_predicate=single)


def ports(first: int, last: int) -> ValueMatcher:
    """A number of these, both included: Envoy's ranges end before their last."""
    return ValueMatcher(double_match=DoubleMatcher(range=DoubleRange(start=first, end=last + 1)))


def _extension(name: str, message: Message) -> XdsExtension:
    return XdsExtension(name=name, typed_config=packed(message))
