"""The protocol without a socket: any table to any table, in a safe order, whatever the other side refuses or forgets."""

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.envoy.ads.resource import CLUSTER, EXTENSION, LISTENER, SECRET, Resource, ResourceKey
from dataplane.envoy.ads.stream import MOST_TYPES, Stream
from dataplane.envoy.ads.table import ResourceTable
from tests.testlib.fakes.envoy import TYPES, FakeEnvoy
from tests.testlib.work import work

keys = st.builds(ResourceKey, st.sampled_from(TYPES), st.sampled_from([f"n{each}" for each in range(6)]))
versions = st.sampled_from(["1", "2", "bad"])
tables = st.dictionaries(keys, versions.map(lambda version: Resource(version, version.encode())), max_size=12)


def bad(name: str, version: str) -> bool:
    return version == "bad"


def table(*entries: tuple[str, str, str]) -> ResourceTable:
    return ResourceTable.of({ResourceKey(kind, name): Resource(version, b"x") for kind, name, version in entries})


def versions_of(resources: dict[ResourceKey, Resource]) -> dict[tuple[str, str], str]:
    return {(key.type_url, key.name): each.version for key, each in resources.items()}


@given(st.lists(tables, min_size=1, max_size=5))
def test_any_table_becomes_any_other_and_only_the_bad_is_refused(states: list[dict[ResourceKey, Resource]]) -> None:
    envoy = FakeEnvoy(hates=bad, wants={f"n{each}" for each in range(6)})
    stream = envoy.connect()
    for state in states:
        envoy.settle(stream, ResourceTable.of(state))
        wanted = versions_of(state)
        good = {key: version for key, version in wanted.items() if version != "bad"}
        assert good.items() <= envoy.has.items()
        assert {(key.type_url, key.name) for key in stream.refusals()} >= {key for key in wanted if wanted[key] == "bad"}
        # listeners and clusters that are not wanted go; secrets are named by the subscriber
        assert {key for key in envoy.has if key[0] != SECRET} <= wanted.keys()


@given(tables)
def test_a_new_agent_with_the_same_table_pushes_nothing(state: dict[ResourceKey, Resource]) -> None:
    envoy = FakeEnvoy(wants={f"n{each}" for each in range(6)})
    envoy.settle(envoy.connect(), ResourceTable.of(state))
    again = envoy.connect()
    envoy.settle(again, ResourceTable.of(state))
    assert again.pushed == 0


@settings(max_examples=400)
@given(tables, tables, st.data())
def test_pushes_may_change_while_answers_are_on_their_way(
    before: dict[ResourceKey, Resource], after: dict[ResourceKey, Resource], data: st.DataObject
) -> None:
    envoy = FakeEnvoy(hates=bad, wants={f"n{each}" for each in range(6)})
    stream = envoy.connect()
    flying: list[DeltaDiscoveryResponse] = []
    for state in (before, after, before, after):
        while data.draw(st.booleans()) and (push := stream.next_push(ResourceTable.of(state))):
            flying.append(push)
        while flying and bool(data.draw(st.booleans())):
            envoy.take(stream, flying.pop(0))
    for push in flying:
        envoy.take(stream, push)
    envoy.settle(stream, ResourceTable.of(after))
    good = {key: version for key, version in versions_of(after).items() if version != "bad"}
    assert good.items() <= envoy.has.items()
    assert {key for key in envoy.has if key[0] != SECRET} <= versions_of(after).keys()


def test_what_was_taken_of_a_refused_push_is_put_back_or_removed() -> None:
    for then in (table((CLUSTER, "good", "2")), table()):
        envoy = FakeEnvoy(hates=bad)
        stream = envoy.connect()
        envoy.settle(stream, table((CLUSTER, "good", "2")))
        push = stream.next_push(table((CLUSTER, "good", "1"), (CLUSTER, "other", "1"), (CLUSTER, "evil", "bad")))
        assert push is not None
        envoy.take(stream, push)
        envoy.settle(stream, then)
        assert {name: version for (_, name), version in envoy.has.items()} == dict.fromkeys(then.named(CLUSTER), "2")


def test_clusters_and_secrets_go_before_listeners_and_listeners_leave_before_clusters() -> None:
    envoy = FakeEnvoy(wants={"s"})
    stream = envoy.connect()
    envoy.settle(stream, table((LISTENER, "l", "1"), (CLUSTER, "c", "1"), (SECRET, "s", "1")))
    envoy.settle(stream, table())
    steps = [(push.type_url, bool(push.removed_resources)) for push in envoy.pushes]
    assert steps == [(CLUSTER, False), (SECRET, False), (LISTENER, False), (LISTENER, True), (CLUSTER, True)]


def test_a_listener_waits_while_its_cluster_cannot_be_sent() -> None:
    envoy = FakeEnvoy()
    stream = envoy.connect()
    first = stream.next_push(table((CLUSTER, "c", "1")))
    both = table((CLUSTER, "c", "2"), (LISTENER, "l", "1"))
    assert first is not None
    assert stream.next_push(both) is None
    envoy.take(stream, first)
    assert [each.type_url for each in iter(lambda: stream.next_push(both), None)] == [CLUSTER, LISTENER]


def test_a_wildcard_subscriber_of_an_empty_table_is_answered_once() -> None:
    envoy = FakeEnvoy()
    stream = envoy.connect()
    assert envoy.settle(stream, table()) == 2
    assert [list(push.resources) for push in envoy.pushes] == [[], []]


def test_a_secret_is_sent_when_it_is_asked_for_and_when_it_appears() -> None:
    envoy = FakeEnvoy()
    stream = envoy.connect()
    envoy.settle(stream, table((SECRET, "s", "1")))
    assert envoy.has == {}
    envoy.want(stream, "s", "later")
    envoy.settle(stream, table((SECRET, "s", "1")))
    assert envoy.has == {(SECRET, "s"): "1"}
    envoy.settle(stream, table((SECRET, "s", "1"), (SECRET, "later", "1")))
    assert envoy.has == {(SECRET, "s"): "1", (SECRET, "later"): "1"}


def test_an_answer_of_envoys_takes_no_more_work_among_a_thousand_names_than_among_ten() -> None:
    def work_among(count: int) -> int:
        envoy, names = FakeEnvoy(), [f"l{number}" for number in range(count)]
        before = table(*((kind, name, "1") for kind in (CLUSTER, LISTENER) for name in names))
        stream = envoy.connect()
        envoy.settle(stream, before)
        after = before.changed({ResourceKey(CLUSTER, "l3"): Resource("2", b"x")}, drop=())
        push = stream.next_push(after)
        assert push is not None
        assert [each.name for each in push.resources] == ["l3"]

        def answered() -> None:
            envoy.take(stream, push)
            assert stream.next_push(after) is None

        return work(answered)

    assert work_among(1_000) == work_among(10)


def test_a_resource_that_is_requested_anew_is_sent_again() -> None:
    envoy = FakeEnvoy()
    stream = envoy.connect()
    wanted = table((SECRET, "s", "1"))
    envoy.want(stream, "s")
    envoy.settle(stream, wanted)
    stream.receive(DeltaDiscoveryRequest(type_url=SECRET, resource_names_unsubscribe=["s"], resource_names_subscribe=["s"]))
    envoy.has.clear()
    envoy.settle(stream, wanted)
    assert envoy.has == {(SECRET, "s"): "1"}


def test_what_is_not_asked_for_any_more_is_not_sent() -> None:
    envoy = FakeEnvoy()
    stream = envoy.connect()
    envoy.want(stream, "s")
    stream.receive(DeltaDiscoveryRequest(type_url=SECRET, resource_names_unsubscribe=["s"]))
    envoy.settle(stream, table((SECRET, "s", "1")))
    assert envoy.has == {}


def test_secrets_are_sent_one_by_one_since_envoy_takes_a_bad_one_the_second_time() -> None:
    envoy = FakeEnvoy(wants={"a", "b"}, hates=bad)
    stream = envoy.connect()
    wanted = table((SECRET, "a", "bad"), (SECRET, "b", "1"))
    pushes = [push for push in iter(lambda: stream.next_push(wanted), None) if push.type_url == SECRET]
    assert [[each.name for each in push.resources] for push in pushes] == [["a"], ["b"]]
    for push in pushes:
        envoy.take(stream, push)
    for subscription in stream.subscriptions.values():
        subscription.retry()
    envoy.settle(stream, wanted)
    assert [push for push in envoy.pushes if push.type_url == SECRET] == pushes
    assert stream.refusals()[ResourceKey(SECRET, "a")].words == "a is bad; "


def test_one_bad_listener_among_many_costs_few_pushes() -> None:
    envoy = FakeEnvoy(hates=bad)
    stream = envoy.connect()
    names = [f"l{each:03d}" for each in range(256)]
    wanted = table(*((LISTENER, name, "bad" if name == "l100" else "1") for name in names))
    assert envoy.settle(stream, wanted) < 30
    assert [str(key) for key in stream.refusals()] == ["listener l100"]


def test_an_answer_to_a_push_that_was_never_made_changes_nothing() -> None:
    envoy = FakeEnvoy()
    stream = envoy.connect()
    push = stream.next_push(table((CLUSTER, "c", "1")))
    assert push is not None
    for nonce in ("", "999", "no number", push.nonce * 2):
        stream.receive(DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=nonce))
    # an answer counts for its own type alone
    stream.receive(DeltaDiscoveryRequest(type_url=LISTENER, response_nonce=push.nonce))
    assert stream.acknowledged_version(ResourceKey(CLUSTER, "c")) is None
    stream.receive(DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=push.nonce))
    assert stream.acknowledged_version(ResourceKey(CLUSTER, "c")) == "1"


def test_a_peer_that_asks_for_too_much_is_an_error() -> None:
    stream = Stream()
    for number in range(MOST_TYPES):
        stream.receive(DeltaDiscoveryRequest(type_url=f"type/{number}"))
    for request in (
        DeltaDiscoveryRequest(type_url="type/more"),
        DeltaDiscoveryRequest(type_url="type/1", resource_names_subscribe=[str(number) for number in range(70_000)]),
    ):
        with pytest.raises(ValueError, match="more than"):
            stream.receive(request)


RIGHTS, NEEDING = ResourceKey(EXTENSION, "rights"), ResourceKey(LISTENER, "inbound")


def test_an_envoy_lacks_what_it_asks_for_by_name_until_it_acknowledges_the_version() -> None:
    stream = Stream()
    stream.receive(DeltaDiscoveryRequest(type_url=LISTENER))
    stream.receive(DeltaDiscoveryRequest(type_url=EXTENSION, resource_names_subscribe=[RIGHTS.name]))
    assert stream.lacks(RIGHTS, "1", needed_by=NEEDING)
    stream.next_push(table((LISTENER, NEEDING.name, "1")))  # the greeting of a subscriber to all listeners
    push = stream.next_push(table((LISTENER, NEEDING.name, "1"), (EXTENSION, RIGHTS.name, "1")))
    assert push is not None
    assert stream.lacks(RIGHTS, "1", needed_by=NEEDING), "it is on its way"
    stream.receive(DeltaDiscoveryRequest(type_url=EXTENSION, response_nonce=push.nonce))
    assert not stream.lacks(RIGHTS, "1", needed_by=NEEDING)
    assert stream.lacks(RIGHTS, "2", needed_by=NEEDING)


def test_an_envoy_lacks_nothing_that_it_does_not_ask_for() -> None:
    stream = Stream()
    assert stream.lacks(RIGHTS, "1", needed_by=NEEDING), "it is yet to say anything"
    stream.receive(DeltaDiscoveryRequest(type_url=LISTENER))
    assert not stream.lacks(RIGHTS, "1", needed_by=NEEDING), "it has no listener that would let a caller in"
    stream.receive(DeltaDiscoveryRequest(type_url=EXTENSION, resource_names_subscribe=["another"]))
    assert not stream.lacks(RIGHTS, "1", needed_by=NEEDING)


def test_an_envoy_that_connects_again_may_have_older_rights_until_it_says_so() -> None:
    stream = Stream()
    stream.receive(DeltaDiscoveryRequest(type_url=LISTENER, initial_resource_versions={NEEDING.name: "1"}))
    assert stream.lacks(RIGHTS, "2", needed_by=NEEDING)
    again = DeltaDiscoveryRequest(
        type_url=EXTENSION, resource_names_subscribe=[RIGHTS.name], initial_resource_versions={RIGHTS.name: "1"}
    )
    stream.receive(again)
    assert stream.lacks(RIGHTS, "2", needed_by=NEEDING)
    assert not stream.lacks(RIGHTS, "1", needed_by=NEEDING)
