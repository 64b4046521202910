"""Names go before the kernel's part of a turn and come after it: a caller gets no address that it cannot reach."""

import time
from concurrent.futures import Future
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from agent.daemon.clock import Clock
from agent.loop.loop import Effects, Reconciler
from agent.loop.snapshot import Snapshot
from agent.metrics import Metrics
from dataplane.apply import Outcome
from dataplane.dns.hosts_files import HostsFolder, Names
from tests.testlib.beside import beside
from tests.testlib.fakes.kernel import FACTS, FakeKernel, SilentEdge, empty_snapshot

WEB, API = IPv4Address("10.255.1.2"), IPv4Address("10.255.1.200")
BOTH: Names = {WEB: ("web.internal",), API: ("api.internal",)}


class Looking(FakeKernel):
    """Notes which names there are when it is changed, at each turn as it refuses a container."""

    def __init__(self, folder: HostsFolder) -> None:
        super().__init__()
        self.folder, self.seen = folder, list[Names]()

    def apply(self, *plan: object) -> "Future[Outcome]":
        self.seen.append(self.folder.read())
        return super().apply(*plan)


async def test_a_name_leaves_the_answers_before_its_rules_go_and_comes_after_they_have_come(tmp_path: Path) -> None:
    names: Names = BOTH

    async def snapshot() -> Snapshot:
        return replace(await empty_snapshot(), names=names)

    folder, silence = HostsFolder(tmp_path / "names"), SilentEdge()
    kernel = Looking(HostsFolder(tmp_path / "names"))
    edges: Any = {"kernel": kernel, "monitor": silence, "ads": silence, "metrics": Metrics(), "names": folder}
    loop = Reconciler(snapshot, facts=FACTS, effects=Effects(**edges, elapsed=time.monotonic, called=Clock().called))
    async with beside(loop.run()):
        await loop.settle()
        assert (kernel.seen[0], folder.read()) == ({}, BOTH)
        names, turns = {WEB: BOTH[WEB]}, len(kernel.seen)
        await loop.look()
        await loop.settle()
        assert len(kernel.seen) > turns
        assert kernel.seen[-1] == folder.read() == names
