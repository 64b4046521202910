"""One stream of delta ADS, all types: what is sent to one Envoy in which order. Pure.

A later step waits until an earlier one is sent, not until it is answered: Envoy takes the pushes of a stream in order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf.any_pb2 import Any as AnyMessage

from dataplane.envoy.ads.resource import CLUSTER, EXTENSION, LISTENER, SECRET, ResourceKey
from dataplane.envoy.ads.subscription import ResourceRefusal, Subscription, Versions
from dataplane.envoy.ads.table import ByName, ResourceTable

# References before referents, add before remove.
PUT_ORDER = (
    CLUSTER,  # a listener that forwards to nothing would refuse its callers
    SECRET,  # a new workload at a known address must not show its predecessor's certificate
    EXTENSION,  # what a caller has lost is refused, and what it may is there, before the next listener
    LISTENER,  # last: it lets callers in
)
DROP_ORDER = (
    LISTENER,  # first: no new caller comes in
    CLUSTER,
)
STARTED = "started"  # of the node's metadata: seconds since the epoch
# What a peer that lies may make us remember; Envoy asks for four.
MOST_TYPES = 16


@dataclass(slots=True)
class Stream:
    """One Envoy, from its connecting until it is gone."""

    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    started: float | None = None  # by its first request
    pushed: int = 0
    acknowledged: int = 0
    _nonce: int = 0

    def receive(self, request: discovery.DeltaDiscoveryRequest) -> None:
        """Take a request in. Raises ValueError where it asks for more than any Envoy does."""
        if self.started is None:
            self.started = request.node.metadata.fields[STARTED].number_value if request.HasField("node") else 0.0
        subscription = self.subscriptions.get(request.type_url)
        if subscription is not None:
            self.acknowledged += subscription.receive(request)
            return
        if len(self.subscriptions) >= MOST_TYPES:
            raise ValueError(f"more than {MOST_TYPES} types of resources")
        self.subscriptions[request.type_url] = Subscription.opened_by(request)

    def next_push(self, table: ResourceTable) -> discovery.DeltaDiscoveryResponse | None:
        """What to send now, or None until the next request or the next change of the table."""
        for order, drops in ((PUT_ORDER, False), (DROP_ORDER, True)):
            for type_url in order:
                subscription = self.subscriptions.get(type_url)
                if subscription is None:
                    continue
                desired = table.named(type_url)
                due = subscription.to_drop(desired) if drops else subscription.to_put(desired)
                greeting = not drops and subscription.wildcard and not subscription.answered
                if (due or greeting) and not subscription.may_send():
                    return None
                if due or greeting:
                    return self._push(type_url, subscription, desired, subscription.portion(due))
        return None

    def _push(
        self, type_url: str, subscription: Subscription, desired: ByName, due: Versions
    ) -> discovery.DeltaDiscoveryResponse:
        self._nonce += 1
        nonce = str(self._nonce)
        subscription.sent(due, nonce=nonce)
        self.pushed += len(due)
        return discovery.DeltaDiscoveryResponse(
            type_url=type_url,
            nonce=nonce,
            resources=[
                discovery.Resource(name=name, version=version, resource=AnyMessage(type_url=type_url, value=desired[name].body))
                for name, version in sorted(due.items())
                if version is not None
            ],
            removed_resources=sorted(name for name, version in due.items() if version is None),
        )

    def acknowledged_version(self, key: ResourceKey) -> str | None:
        """The version that Envoy has, by its own word."""
        subscription = self.subscriptions.get(key.type_url)
        return subscription.acknowledged.get(key.name) if subscription else None

    def lacks(self, key: ResourceKey, version: str, *, needed_by: ResourceKey) -> bool:
        """Whether this Envoy may go by another version of `key`, which it asks for by name while it has `needed_by`."""
        found = self.subscriptions.get(key.type_url)
        if found is not None:
            return key.name in found.names and found.acknowledged.get(key.name) != version
        needing = self.subscriptions.get(needed_by.type_url)  # after it, an Envoy that connects again may ask for the other
        return needing is None or needed_by.name in needing.acknowledged

    def refusal(self, key: ResourceKey) -> ResourceRefusal | None:
        """What this Envoy has against the resource, if anything."""
        subscription = self.subscriptions.get(key.type_url)
        return subscription.refused.get(key.name) if subscription else None

    def refusals(self) -> Mapping[ResourceKey, ResourceRefusal]:
        """What this Envoy does not take, with its words."""
        return {
            ResourceKey(type_url, name): refusal
            for type_url, subscription in sorted(self.subscriptions.items())
            for name, refusal in sorted(subscription.refused.items())
        }
