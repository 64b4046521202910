"""A turn in which nothing has changed works nothing out again, and one in which something has does."""

import time
from dataclasses import replace
from typing import Any

import pytest

from agent.daemon.clock import Clock
from agent.loop import loop as looping
from agent.loop.loop import Effects, Reconciler
from agent.loop.snapshot import Snapshot
from agent.metrics import Metrics
from dataplane.compile import compile_tables
from dataplane.state import HostState
from dataplane.tables import Tables
from tests.testlib.beside import beside
from tests.testlib.fakes.kernel import FACTS, NO_NAMES, FakeKernel, SilentEdge, empty_snapshot
from tests.testlib.hosts import subnet_of
from tests.testlib.oracle import Mode
from tests.testlib.tunnels.modes import MODES


@pytest.mark.parametrize("mode", Mode)
async def test_only_a_turn_with_a_change_is_worked_out(monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
    compiled: list[HostState] = []
    published: list[object] = []

    def counted(state: HostState, *, before: Tables | None) -> Tables:
        compiled.append(state)
        return compile_tables(state, before=before)

    class Envoy(SilentEdge):
        def publish(self, resources: object) -> None:
            published.append(resources)

    bundle = b"roots"

    async def snapshot() -> Snapshot:
        found = await empty_snapshot()
        mutual_tls = replace(MODES[mode], exempt=frozenset({subnet_of(2)}))  # made anew for each turn
        return replace(found, trust_bundle=bundle, mutual_tls=mutual_tls)

    monkeypatch.setattr(looping, "compile_tables", counted)
    kernel = FakeKernel()
    kernel.failures = {}
    edges: Any = {"kernel": kernel, "monitor": SilentEdge(), "ads": Envoy(), "metrics": Metrics(), "names": NO_NAMES}
    reconciler = Reconciler(snapshot, facts=FACTS, effects=Effects(**edges, elapsed=time.monotonic, called=Clock().called))
    async with beside(reconciler.run()):
        for _ in range(3):
            assert (await reconciler.settle()).problem is None
        assert (len(compiled), len(published)) == (1, 1)
        bundle = b"other roots"
        await reconciler.settle()
        assert (len(compiled), len(published)) == (2, 2)
