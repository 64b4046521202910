"""The other end of a stream, without a socket: an Envoy that takes what it is sent, but for what a test has it refuse."""

from collections.abc import Callable
from dataclasses import dataclass, field

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from dataplane.envoy.ads.resource import CLUSTER, LISTENER, SECRET
from dataplane.envoy.ads.stream import Stream
from dataplane.envoy.ads.table import ResourceTable

TYPES = (CLUSTER, LISTENER, SECRET)


@dataclass
class FakeEnvoy:
    """`has` is what it holds, type and name to version. It refuses every push with a version that `hates` is true of.

    Like Envoy it takes the good part of a push that it refuses.
    """

    hates: Callable[[str, str], bool] = lambda name, version: False
    has: dict[tuple[str, str], str] = field(default_factory=dict)
    pushes: list[DeltaDiscoveryResponse] = field(default_factory=list)
    wants: set[str] = field(default_factory=set)

    def connect(self) -> Stream:
        """A new stream, subscribed as Envoy subscribes, with the versions it has."""
        stream = Stream()
        for type_url in TYPES:
            known = {name: version for (kind, name), version in self.has.items() if kind == type_url}
            wanted = sorted(self.wants) if type_url == SECRET else []
            if type_url != SECRET or wanted:
                stream.receive(
                    DeltaDiscoveryRequest(type_url=type_url, initial_resource_versions=known, resource_names_subscribe=wanted)
                )
        return stream

    def want(self, stream: Stream, *names: str) -> None:
        """Subscribe to secrets."""
        self.wants.update(names)
        stream.receive(DeltaDiscoveryRequest(type_url=SECRET, resource_names_subscribe=names))

    def take(self, stream: Stream, push: DeltaDiscoveryResponse) -> None:
        """Apply a push and answer it."""
        self.pushes.append(push)
        answer = DeltaDiscoveryRequest(type_url=push.type_url, response_nonce=push.nonce)
        for each in push.resources:
            if self.hates(each.name, each.version):
                answer.error_detail.message += f"{each.name} is bad; "
            else:
                self.has[push.type_url, each.name] = each.version
        for name in push.removed_resources:
            self.has.pop((push.type_url, name), None)
        stream.receive(answer)

    def settle(self, stream: Stream, table: ResourceTable, *, most: int = 10_000) -> int:
        """Take pushes until none is due; returns how many there were."""
        for count in range(most):
            push = stream.next_push(table)
            if push is None:
                return count
            self.take(stream, push)
        raise AssertionError("it pushes for ever")
