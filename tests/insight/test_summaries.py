"""A cell's summary has what was most, in 8 KB; what another cell writes is believed only as far as it makes sense."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from agent.errors import Unavailable
from agent.insight.cell_summary import LARGEST, CellSummary
from agent.insight.flows.live_flow import LiveFlow
from agent.insight.flows.looks import FlowLook, FlowLooks
from agent.insight.refusals.denied import Denied, Pair, Reason
from agent.insight.summaries import HOLDS, Summaries, SummaryRow
from agent.metrics import Metrics
from agent.store.lone_summaries import LoneSummaries
from tests.testlib.patience import eventually_async

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
REFUSED = Pair("acme/shop/web", "acme/shop/db", "tcp", 5432, Reason.POLICY)


def flow(port: int, *, state: str = "open", source: str = "acme/shop/web") -> LiveFlow:
    place = "/etc/cellnet/policies.d/shop.yaml:3"
    return LiveFlow("5d2a8c01", source, "acme/shop/api", "10.255.1.2", 40000, "10.255.1.3", "tcp", port, state, "p", place)


class CountingStore(LoneSummaries):
    """Counts what is asked of it; it is not there while `away`."""

    def __init__(self) -> None:
        super().__init__("one")
        self.written = self.read = 0
        self.away = False

    async def publish_summary(self, data: bytes) -> None:
        if self.away:
            raise Unavailable("etcd does not answer")
        self.written += self._held.get("one") != data
        await super().publish_summary(data)

    async def summaries(self) -> Mapping[str, bytes]:
        self.read += 1
        return await super().summaries()


class GivenLooks(FlowLooks):
    """Sees what it is given."""

    def __init__(self) -> None:
        self.flows: tuple[LiveFlow, ...] = ()

    async def look(self, *, new: bool = False) -> FlowLook:
        return FlowLook(NOON, self.flows, whole=True, counts_octets=False, keeps_time=False)


class Scene:
    """A cell with a clock that is set."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.store, self.looks = CountingStore(), GivenLooks()
        self.denied = Denied(metrics=Metrics(), now=self.now, elapsed=lambda: self.seconds)
        self.summaries = Summaries(
            self.store, self.looks, self.denied, now=self.now, elapsed=lambda: self.seconds, every=0.005, beside=self.beside
        )

    async def beside(self) -> None:
        pass

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)


async def test_pairs_are_counted_and_what_is_over_is_not() -> None:
    scene = Scene()
    scene.looks.flows = (flow(8080), flow(8080), flow(9000), flow(9000, state="closed"))
    scene.denied.add(REFUSED, source_address="10.255.1.2", to_address="10.255.1.4", count=3)
    await scene.summaries._publish()
    found = (await scene.summaries.all()).summaries["one"]
    assert [(pair.port, count) for pair, count in found.flows] == [(8080, 2), (9000, 1)]
    assert found.denied == ((REFUSED, 3),)
    assert (found.at, found.more_flows, found.more_denied) == (NOON, 0, 0)


async def test_flows_are_counted_by_their_apps_whatever_the_ports() -> None:
    scene = Scene()
    assert scene.summaries.flows() == {}
    scene.looks.flows = (flow(8080), flow(9000), flow(8080, source="192.0.2.7"), flow(8080, state="closed"))
    await scene.summaries._publish()
    both = {("acme/shop/web", "acme/shop/api"): 2, ("outside", "acme/shop/api"): 1}
    assert scene.summaries.flows() == both


async def test_what_has_not_changed_is_not_written_again() -> None:
    scene = Scene()
    scene.looks.flows = (flow(8080),)
    for minute in range(3):
        scene.seconds = 60.0 * minute
        await scene.summaries._publish()
    assert scene.store.written == 1
    scene.looks.flows = (flow(8080), flow(8080))
    await scene.summaries._publish()
    assert scene.store.written == 2


async def test_all_are_read_once_in_ten_seconds_and_only_for_those_who_look() -> None:
    scene = Scene()
    await scene.summaries._publish()
    assert scene.store.read == 0
    for _ in range(3):
        await scene.summaries.all()
    assert scene.store.read == 1
    scene.seconds = HOLDS
    await scene.summaries.all()
    assert scene.store.read == 2


async def test_a_store_that_is_away_is_said_and_the_next_minute_comes_right() -> None:
    scene = Scene()
    scene.store.away = True
    task = asyncio.create_task(scene.summaries.run())
    await eventually_async(lambda: says(scene, SummaryRow(None, "etcd does not answer")))
    scene.store.away, scene.seconds = False, 60.0
    await eventually_async(lambda: says(scene, SummaryRow(NOON + timedelta(seconds=60), "")))
    task.cancel()


async def says(scene: Scene, row: SummaryRow) -> bool:
    return (await scene.summaries.rows())["summary"] == row


def test_of_too_much_the_least_is_left_out_and_counted() -> None:
    flows = [flow(port, source=f"acme/{'s' * 60}/{'w' * 50}{port}") for port in range(1, 400) for _ in range(400 - port)]
    denied = Counter({REFUSED._replace(port=port): port for port in range(1, 300)})
    summary = CellSummary.of(NOON, flows, denied)
    data = summary.data()
    assert len(data) <= LARGEST
    found = CellSummary.parse(data)
    assert [pair.port for pair, _ in found.flows][:3] == [1, 2, 3]
    assert [pair.port for pair, _ in found.denied][:3] == [299, 298, 297]
    assert sum(count for _, count in found.flows) + found.more_flows == len(flows)
    assert sum(count for _, count in found.denied) + found.more_denied == denied.total()


GOOD = json.loads(CellSummary.of(NOON, [flow(8080)], Counter({REFUSED: 1})).data())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 5_000,
        json.dumps({**GOOD, "at": "noon"}).encode(),
        json.dumps({**GOOD, "flows": [[["a", "b", "tcp", 70_000, "", ""], 1]]}).encode(),
        json.dumps({**GOOD, "flows": [[["a", "b", "tcp", 7, "", ""], -1]]}).encode(),
        json.dumps({**GOOD, "flows": [[["\x1b[31m", "b", "tcp", 7, "", ""], 1]]}).encode(),
        json.dumps({**GOOD, "flows": [[["a" * 300, "b", "tcp", 7, "", ""], 1]]}).encode(),
        json.dumps({**GOOD, "denied": [[["a", "b", "tcp", 7, "mood"], 1]]}).encode(),
        json.dumps({**GOOD, "more": [1]}).encode(),
        json.dumps({**GOOD, "later": "x" * LARGEST}).encode(),
    ],
)
async def test_what_makes_no_sense_costs_its_own_cell_alone(data: bytes) -> None:
    scene = Scene()
    await scene.summaries._publish()
    scene.store._held["two"] = data
    found = await scene.summaries.all()
    assert (list(found.summaries), list(found.senseless)) == (["one"], ["two"])


async def test_fields_of_a_later_version_are_passed_over() -> None:
    assert CellSummary.parse(json.dumps({**GOOD, "later": 1}).encode()).flows
