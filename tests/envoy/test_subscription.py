"""What is due is found by looking at few names, and is what a look at all of them would find; whatever happened before."""

from copy import deepcopy

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.envoy.ads.resource import CLUSTER, SECRET, Resource, ResourceKey
from dataplane.envoy.ads.subscription import WILDCARD, Subscription, Versions
from dataplane.envoy.ads.table import ResourceTable

NAMES = tuple("abcdef")
names = st.sets(st.sampled_from(NAMES), max_size=3)
kinds = st.sampled_from([CLUSTER, SECRET])
changes = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["1", "2"]), max_size=3)


class Peer:
    """A subscription, what is desired of it, and the pushes that are not answered."""

    def __init__(self, request: DeltaDiscoveryRequest) -> None:
        self.kind = request.type_url
        self.subscription = Subscription.opened_by(request)
        self.table = ResourceTable()
        self.sent: list[str] = []

    def due(self, *, drops_first: bool = False) -> tuple[Versions, Versions]:
        """To put and to drop."""
        desired = self.table.named(self.kind)
        drop = self.subscription.to_drop(desired) if drops_first else None
        put = self.subscription.to_put(desired)
        return put, self.subscription.to_drop(desired) if drop is None else drop

    def due_by_all_names(self) -> tuple[Versions, Versions]:
        """The same, with a look at every name."""
        subscription, desired = deepcopy(self.subscription), self.table.named(self.kind)
        subscription.unsure = {*NAMES, *desired}
        return subscription.to_put(desired), subscription.to_drop(desired)

    def change(self, put: dict[str, str], drop: set[str]) -> None:
        before = self.table
        resources = {ResourceKey(self.kind, name): Resource(version, b"") for name, version in put.items()}
        self.table = before.changed(resources, drop={ResourceKey(self.kind, name) for name in drop - put.keys()})
        gone = before.named(self.kind).keys() - self.table.named(self.kind).keys()
        self.subscription.withdraw(gone)

    def push(self) -> None:
        put, drop = self.due()
        if (put or drop) and self.subscription.may_send():
            nonce = str(len(self.sent))
            self.sent.append(nonce)
            self.subscription.sent(self.subscription.portion(put or drop), nonce=nonce)

    def receive(self, subscribe: set[str], unsubscribe: set[str], *, nonce: str = "", refuse: bool = False) -> None:
        request = DeltaDiscoveryRequest(
            type_url=self.kind,
            response_nonce=nonce,
            resource_names_subscribe=sorted(subscribe),
            resource_names_unsubscribe=sorted(unsubscribe),
        )
        if refuse:
            request.error_detail.message = "no"
        self.subscription.receive(request)


@settings(max_examples=300)
@given(kinds, names, names, st.data())
def test_only_names_of_which_something_may_be_due_are_left_out(
    kind: str, wanted: set[str], known: set[str], data: st.DataObject
) -> None:
    peer = Peer(
        DeltaDiscoveryRequest(
            type_url=kind,
            resource_names_subscribe=sorted(wanted),
            initial_resource_versions=dict.fromkeys(sorted(known), "1"),
        )
    )
    for _ in range(12):
        match data.draw(st.sampled_from(["change", "push", "answer", "interest", "retry"])):
            case "change":
                peer.change(data.draw(changes), data.draw(names))
            case "push":
                peer.push()
            case "answer" if peer.sent:
                peer.receive(set(), set(), nonce=data.draw(st.sampled_from(peer.sent)), refuse=data.draw(st.booleans()))
            case "interest":
                everything = {WILDCARD} if data.draw(st.booleans()) else set()
                peer.receive(
                    data.draw(names) | everything, data.draw(names) | (everything if data.draw(st.booleans()) else set())
                )
            case "retry":
                peer.subscription.retry()
        assert peer.due(drops_first=data.draw(st.booleans())) == peer.due_by_all_names()
