"""What one more container costs the loop beside many: of those that have not changed nothing is made, sent or compared anew."""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from agent.daemon.clock import Clock
from agent.loop.loop import Effects, Reconciler
from agent.loop.snapshot import Snapshot
from agent.metrics import Metrics
from agent.model.attachment import Attachment
from agent.model.names import AppName
from agent.policy.rights.outside import OutsideResolver
from agent.policy.rights.resolve import PolicyResolver
from dataplane.envoy.ads.ads import EnvoyStatus
from dataplane.envoy.ads.resource import Resource
from dataplane.envoy.ads.table import ResourceTable
from dataplane.state import Leaf
from tests.testlib.beside import beside
from tests.testlib.fakes.envoy import FakeEnvoy
from tests.testlib.fakes.kernel import FACTS, NO_NAMES, FakeKernel, SilentEdge
from tests.testlib.oracle import Mode
from tests.testlib.samples import attachment
from tests.testlib.tunnels.modes import MODES
from tests.testlib.work import counted

FIRST = IPv4Address("10.255.1.2")


class Publications(SilentEdge):
    """An Envoy that has taken all rights that there are, and is given tables."""

    table = ResourceTable()

    def publish(self, resources: object) -> None:
        assert isinstance(resources, ResourceTable)
        self.table = resources

    def status(self) -> EnvoyStatus:
        return EnvoyStatus(connected=False, connections=0, refused={}, pushed=0, acknowledged=0)

    def lacks(self, *_key: object, **_needed: object) -> bool:
        return False


@dataclass
class Crowd:
    """So many containers in strict mode, and the loop that has put them in place."""

    reconciler: Reconciler
    ads: Publications
    count: int
    leaves: dict[str, Leaf] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    resolver: PolicyResolver = field(default_factory=PolicyResolver)
    outside: OutsideResolver = field(default_factory=OutsideResolver)

    def grow(self) -> None:
        number = len(self.attachments)
        made = attachment(AppName("acme", "shop", f"app-{number}"), address=FIRST + number)
        self.attachments = (*self.attachments, made)
        self.leaves[made.name] = Leaf(b"chain %d" % number, b"key")

    async def snapshot(self) -> Snapshot:
        tags = {each.app: number for number, each in enumerate(self.attachments, start=1)}
        self.resolver.update((), tags)
        return Snapshot(
            self.attachments, tags, dict(self.leaves), self.resolver.allows, self.outside.rights, (), b"roots",
            mutual_tls=MODES[Mode.STRICT],
        )  # fmt: skip


@contextlib.asynccontextmanager
async def crowd(count: int) -> AsyncIterator[Crowd]:
    kernel, ads = FakeKernel(), Publications()
    kernel.failures = {}
    edges: Any = {"kernel": kernel, "monitor": SilentEdge(), "ads": ads, "metrics": Metrics(), "names": NO_NAMES}
    effects = Effects(**edges, elapsed=time.monotonic, called=Clock().called)
    found: list[Crowd] = []
    reconciler = Reconciler(lambda: found[0].snapshot(), facts=FACTS, effects=effects)
    found.append(Crowd(reconciler, ads, count))
    for _ in range(count):
        found[0].grow()
    async with beside(reconciler.run()):
        for _ in range(2):
            assert (await reconciler.settle()).problem is None
        yield found[0]


async def work(count: int) -> int:
    """Of the turn that puts one more in place, and of asking what should be open then."""
    async with crowd(count) as made:
        made.reconciler.served()
        made.grow()
        with counted() as calls:
            await made.reconciler.settle()
            served = made.reconciler.served()
        assert len(served) == 3 * (count + 1)
        return calls.count


async def test_a_container_that_has_not_changed_costs_the_attach_of_another_hardly_any_work() -> None:
    few, many = await work(20), await work(220)
    assert (many - few) / 200 <= 93  # calls: of the hash of an address most of them; 89, and 91 after some other tests


async def test_envoy_is_sent_what_is_the_new_containers_and_nothing_else() -> None:
    async with crowd(250) as made:
        before, envoy = made.ads.table, FakeEnvoy()
        stream = envoy.connect()
        envoy.want(stream, *(f"leaf-{int(each.address):08x}" for each in made.attachments))
        envoy.settle(stream, before)
        made.grow()
        new = f"{int(made.attachments[-1].address):08x}"
        envoy.want(stream, f"leaf-{new}")
        envoy.pushes.clear()
        await made.reconciler.settle()
        envoy.settle(stream, made.ads.table)
        sent = {each.name for push in envoy.pushes for each in push.resources}
        kinds = ("leaf", "tls", "target", "outbound", "inbound")
        assert sent == {f"{kind}-{new}" for kind in kinds}
        assert not any(push.removed_resources for push in envoy.pushes)
        assert made_anew(before, made.ads.table) == sent | {f"rights-{new}-{shard}" for shard in range(4)}


def made_anew(before: ResourceTable, after: ResourceTable) -> set[str]:
    """The names of resources that are other objects."""
    known: dict[int, Resource] = {id(each): each for each in before.values()}
    return {key.name for key, each in after.items() if id(each) not in known}
