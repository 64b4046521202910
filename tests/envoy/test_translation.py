"""From a cell's state to Envoy's table, without an Envoy."""

import json
import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.listener.v3 import listener_pb2
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from xds.type.matcher.v3.ip_pb2 import IPMatcher

from dataplane.envoy.ads.resource import LISTENER, SECRET, ResourceKey
from dataplane.envoy.ads.table import ResourceTable
from dataplane.envoy.process.bootstrap import EnvoySettings, bootstrap
from dataplane.envoy.process.command import command
from dataplane.envoy.process.overload import HEAP_PER_DESCRIPTOR, LEAST_HEAP, connections_for, memory_for
from dataplane.envoy.translation import (
    BUNDLE_KEY,
    Translation,
    cluster_key,
    leaf_key,
    listener_key,
    of_workload,
    secrets_of,
)
from dataplane.state import (
    Allow,
    HostState,
    InboundListener,
    Leaf,
    Listener,
    OutboundListener,
    TargetHttp,
    TlsListener,
    Workload,
)

SETTING = EnvoySettings(
    cell="no", ads=Path("/run/a/ads.sock"), admin=Path("/run/b/admin.sock"), connections=500, memory=1 << 30
)


def workload(number: int, *, http: bool = False) -> Workload:
    address = IPv4Address("10.255.1.2") + number
    tls = TlsListener(61443, Leaf(b"chain %d" % number, b"-----secret key----- %d" % number), 8080, http=TargetHttp(http))
    return Workload(f"w{number}", address, number + 1, Path(f"/run/cellnet/netns/{number}"), listeners=(tls,))


(TLS,) = workload(0).listeners
assert isinstance(TLS, TlsListener)


def state(*workloads: Workload) -> HostState:
    overlay, subnet = IPv4Network("10.255.0.0/16"), IPv4Network("10.255.1.0/24")
    return HostState(overlay, subnet, 1450, {each.address: each for each in workloads}, trust_bundle=b"roots")


def test_a_workload_is_a_cluster_a_leaf_and_a_listener() -> None:
    one = workload(0)
    keys = {cluster_key(one.address), leaf_key(one.address), listener_key(one.address), BUNDLE_KEY}
    assert Translation().of(state(one)).keys() == keys


def test_a_workload_without_tls_is_nothing_to_envoy() -> None:
    assert Translation().of(state(replace(workload(0), listeners=()))).keys() == {BUNDLE_KEY}


def test_without_a_bundle_there_is_no_secret_that_would_verify_nothing() -> None:
    assert BUNDLE_KEY not in Translation().of(replace(state(workload(0)), trust_bundle=b""))


def test_the_order_of_workloads_changes_nothing() -> None:
    workloads = [workload(number, http=number % 2 == 0) for number in range(20)]
    shuffled = random.Random(1).sample(workloads, len(workloads))
    one, other = Translation().of(state(*workloads)), Translation().of(state(*shuffled))
    assert list(one.items()) == list(other.items())


LEAVES = tuple(Leaf(b"chain %d" % number, b"key %d" % number) for number in range(2))
RIGHTS = tuple(frozenset(Allow(tag, "tcp", 80, 80) for tag in range(1, count)) for count in (1, 2, 7))


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """One of few, with some of its listeners."""
    leaf = draw(st.sampled_from(LEAVES))
    possible: tuple[Listener, ...] = (
        TlsListener(61443, leaf, target_port=draw(st.sampled_from([80, 81]))),
        OutboundListener(leaf, longest=60),
        InboundListener(leaf, frozenset({61443}), longest=60),
    )
    listeners = tuple(each for each in possible if draw(st.booleans()))
    pin = Path(draw(st.sampled_from(["/one", "/other"])))
    return replace(workload(draw(st.integers(0, 3))), pin=pin, allows=draw(st.sampled_from(RIGHTS)), listeners=listeners)


states = st.builds(
    lambda found, bundle, cells: replace(
        state(*found),
        trust_bundle=bundle,
        principals={tag: f"spiffe://{tag}" for tag in range(9)},
        peers={IPv4Network(f"10.255.{number}.0/24"): IPv4Address("192.0.2.1") for number in cells},
    ),
    st.lists(workloads(), max_size=4),
    st.sampled_from([b"", b"roots", b"other roots"]),
    st.sets(st.integers(2, 5)),
)


@given(st.lists(states, min_size=1, max_size=6))
def test_a_translation_with_a_memory_equals_a_fresh_one(walk: list[HostState]) -> None:
    translation = Translation()
    for now in walk:
        fresh = Translation()
        assert list(translation.of(now).items()) == list(fresh.of(now).items())
        assert translation.made == fresh.made
        assert translation.of(now) is translation.of(replace(now))


def test_what_is_of_a_type_in_which_nothing_has_changed_is_the_same_object() -> None:
    translation = Translation()
    before = translation.of(state(workload(0), workload(1)))
    renewed = replace(TLS, leaf=Leaf(b"new", b"new"))
    after = translation.of(state(replace(workload(0), listeners=(renewed,)), workload(1)))
    assert [kind for kind in before.types if before.types[kind] is not after.types[kind]] == [SECRET]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"allows": frozenset({Allow(1, "tcp", 1, 2)}), "tag": 99, "name": "other"}, []),
        ({"listeners": (replace(TLS, leaf=Leaf(b"new", b"new")),)}, ["secret"]),
        ({"listeners": (replace(TLS, target_port=9000),)}, ["cluster"]),
        ({"listeners": (replace(TLS, http=TargetHttp.HTTP1),)}, ["cluster", "listener"]),
        ({"pin": Path("/run/cellnet/netns/other")}, ["cluster", "listener"]),
    ],
)
def test_only_what_depends_on_a_change_changes(change: dict[str, Any], kinds: list[str]) -> None:
    others = [workload(number) for number in range(1, 5)]
    before, after = (
        Translation().of(state(workload(0), *others)),
        Translation().of(state(replace(workload(0), **change), *others)),
    )
    assert sorted(str(key).split()[0] for key in after if after[key] != before[key]) == kinds


def parts_of(table: ResourceTable) -> list[str]:
    """To which parts of the overlay the first workload's own calls lead."""
    body = table[listener_key(workload(0).address, OutboundListener)].body
    matcher = IPMatcher()
    tree = listener_pb2.Listener.FromString(body).filter_chain_matcher.matcher_tree
    assert tree.custom_match.typed_config.Unpack(matcher)
    return [f"{each.address_prefix}/{each.prefix_len.value}" for each in matcher.range_matchers[0].ranges]


def test_a_workloads_calls_lead_to_the_parts_of_the_overlay_that_cells_have() -> None:
    translation, underlay = Translation(), IPv4Address("192.0.2.1")
    caller = replace(workload(0), listeners=(OutboundListener(TLS.leaf, longest=60),))
    alone = state(caller, workload(1))
    assert parts_of(translation.of(alone)) == ["10.255.1.0/24"]
    before = translation.made
    joined = replace(alone, peers=dict.fromkeys(map(IPv4Network, ("10.255.7.0/24", "10.255.0.0/24")), underlay))
    assert parts_of(translation.of(joined)) == ["10.255.0.0/23", "10.255.7.0/24"]
    assert [translation.made[address] is each for address, each in before.items()] == [False, True]
    table = translation.of(joined)
    assert translation.of(replace(joined, peers=dict(joined.peers))) is table
    many = dict.fromkeys(list(IPv4Network("10.128.0.0/9").subnets(new_prefix=24))[::2], underlay)
    assert parts_of(translation.of(replace(joined, peers=many))) == ["10.255.0.0/16"]


def test_secrets_print_as_a_fingerprint_and_are_in_no_listener() -> None:
    table = Translation().of(state(workload(0)))
    assert "secret key" not in repr(table)
    assert [key for key, each in table.items() if b"secret key" in each.body] == [leaf_key(workload(0).address)]


def test_for_a_workload_that_is_gone_its_absence_must_be_acknowledged() -> None:
    table = Translation().of(state(workload(0)))
    assert {key for key, version in of_workload(table, workload(0).address).items() if version} == table.keys() - {BUNDLE_KEY}
    assert set(of_workload(table, workload(1).address).values()) == {None}


def test_a_listener_needs_its_leaf_and_the_bundle_and_what_is_not_ours_needs_nothing() -> None:
    table, one = Translation().of(state(workload(0), workload(1))), workload(0).address
    needed = secrets_of(table, [listener_key(one).name, "tls-0aff01ff"])
    assert needed == {key: table[key].version for key in (leaf_key(one), BUNDLE_KEY)}
    assert secrets_of(table, []) == {}


def test_a_listener_is_bound_to_its_address_inside_its_namespace() -> None:
    one = workload(0)
    listener = listener_pb2.Listener.FromString(Translation().of(state(one))[ResourceKey(LISTENER, "tls-0aff0102")].body)
    where = listener.address.socket_address
    assert (where.address, where.port_value, where.network_namespace_filepath) == ("10.255.1.2", 61443, str(one.pin))


def test_envoy_uses_the_codec_that_its_makers_defend() -> None:
    (layer,) = json_format.Parse(bootstrap(SETTING), Bootstrap()).layered_runtime.layers
    assert layer.static_layer["envoy.reloadable_features.http2_use_oghttp2"] is False


def test_the_bootstrap_is_json_that_envoy_knows_every_field_of() -> None:
    text = bootstrap(SETTING)
    assert json_format.Parse(text, Bootstrap()).node.id == "no"
    assert json.loads(text)["admin"]["address"]["pipe"]["path"] == "/run/b/admin.sock"


def test_envoy_is_executed_by_name_after_its_rights_are_gone() -> None:
    argv = command(SETTING, binary=Path("/opt/envoy"), uid=5, gid=6, workers=3, drain=7)
    assert argv[0] == "setpriv"
    assert argv[argv.index("--") + 1] == "/opt/envoy"
    assert {"--disable-hot-restart", "--no-new-privs", "--clear-groups"} <= set(argv)


@pytest.mark.parametrize(("descriptors", "connections"), [(20_000, 8_738), (1024, 100), (0, 100)])
def test_connections_fit_into_the_descriptors_there_are(descriptors: int, connections: int) -> None:
    assert connections_for(descriptors, workers=2) == connections


def test_memory_is_a_part_of_the_hosts_and_no_more_than_descriptors_are_left_for() -> None:
    assert memory_for(524_288, workers=2, host=16 << 30) == 4 << 30
    assert memory_for(20_000, workers=2, host=16 << 30) == 17_476 * HEAP_PER_DESCRIPTOR
    assert memory_for(1024, workers=2, host=1 << 30) == LEAST_HEAP
