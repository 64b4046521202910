"""What was denied is kept within bounds, and what is beyond them is counted."""

from datetime import UTC, datetime, timedelta

from agent.insight.refusals.denied import KEPT, PAIRS, PAIRS_A_SECOND, Denied, DeniedRow, Pair, Reason
from agent.metrics import Metrics

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Scene:
    """A clock that is set, and what was denied by it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.metrics = Metrics()
        self.denied = Denied(
            metrics=self.metrics, now=lambda: NOON + timedelta(seconds=self.seconds), elapsed=lambda: self.seconds
        )

    def add(self, port: int, *, count: int = 1, reason: Reason = Reason.POLICY, source: str = "acme/shop/web") -> None:
        pair = Pair(source, "acme/shop/api", "tcp", port, reason)
        self.denied.add(pair, source_address="10.255.1.2", to_address="10.255.1.3", count=count)

    async def row(self) -> DeniedRow:
        found = (await self.denied.rows())["denied"]
        assert isinstance(found, DeniedRow)
        return found


def test_the_last_are_kept_one_by_one_and_are_numbered() -> None:
    scene = Scene()
    for port in range(1, KEPT + 11):
        scene.add(port)
    found = scene.denied.since(0)
    assert [found[0].number, found[-1].number, len(found)] == [11, KEPT + 10, KEPT]
    assert [each.pair.port for each in scene.denied.since(KEPT + 8)] == [KEPT + 9, KEPT + 10]


def test_apps_are_counted_for_a_monitoring_system_but_for_what_no_app_has_asked_for() -> None:
    scene = Scene()
    scene.add(1, count=3)
    scene.add(2)
    scene.add(3, reason=Reason.AUDIT)
    pair = Pair("acme/shop/web", "acme/shop/api", "tcp", 4, Reason.POLICY)
    scene.denied.add(pair, source_address="10.255.1.2", to_address="10.255.1.3", tried=True)
    (metric,) = scene.metrics.denied_pairs.collect()
    (sample,) = [each for each in metric.samples if each.name.endswith("_total")]
    assert (sample.labels, sample.value) == ({"source": "acme/shop/web", "destination": "acme/shop/api"}, 4)


def test_pairs_that_are_given_up_are_counted_and_one_that_is_denied_again_stays() -> None:
    scene = Scene()
    scene.add(1, count=5)
    scene.add(2, count=7)
    for port in range(3, PAIRS + 1):
        scene.add(port)
    scene.add(1)
    scene.add(PAIRS + 1)
    tallies = {pair.port: each for pair, each in scene.denied.tallies()}
    assert (tallies[1].count, len(tallies), scene.denied.forgotten) == (6, PAIRS, 7)
    assert 2 not in tallies


async def test_what_one_source_makes_without_end_drives_out_its_own_and_no_others() -> None:
    for flooding in (["evil/shop/mallory"], [f"203.0.113.{number}" for number in range(1, 255)]):
        scene = Scene()
        for port in range(1, 4):
            scene.add(port)
        for number in range(PAIRS + KEPT):
            scene.add(number % 65_535 + 1, source=flooding[number % len(flooding)])
            if number == 10 * PAIRS_A_SECOND:
                scene.add(4)
        of_web = [1, 2, 3, 4]
        assert [each.pair.port for each in scene.denied.since(0) if each.pair.source == "acme/shop/web"] == of_web
        assert [pair.port for pair, _ in scene.denied.tallies() if pair.source == "acme/shop/web"] == of_web
        assert sorted(pair.port for pair in scene.denied.last_minute() if pair.source == "acme/shop/web") == of_web
        assert len(scene.denied.last_minute()) == PAIRS_A_SECOND
        assert (len(scene.denied.since(0)), len(list(scene.denied.tallies()))) == (KEPT, PAIRS)


async def test_the_row_is_of_the_last_minute() -> None:
    scene = Scene()
    scene.add(1, count=3)
    scene.seconds = 30
    scene.add(2, count=9)
    assert await scene.row() == DeniedRow(
        12,
        ("acme/shop/web -> acme/shop/api tcp/2 (policy) 9 times", "acme/shop/web -> acme/shop/api tcp/1 (policy) 3 times"),
        0,
    )
    scene.seconds = 61
    assert (await scene.row()).last_minute == 9
    scene.seconds = 91
    assert (await scene.row()) == DeniedRow(0, (), 0)


async def test_what_an_audit_has_passed_is_counted_by_itself() -> None:
    scene = Scene()
    scene.add(1)
    scene.add(2, count=5, reason=Reason.AUDIT)
    row = await scene.row()
    assert (row.last_minute, row.pairs) == (1, ("acme/shop/web -> acme/shop/api tcp/1 (policy) once",))
    assert (row.audited, row.audits) == (5, ("acme/shop/web -> acme/shop/api tcp/2 (audit) 5 times",))


async def test_a_scan_of_many_ports_is_counted_in_full_though_few_of_its_pairs_are_kept() -> None:
    scene = Scene()
    for port in range(1, 10 * PAIRS_A_SECOND + 1):
        scene.add(port)
    scene.add(1)
    found = await scene.row()
    assert found.last_minute == 10 * PAIRS_A_SECOND + 1
    assert found.pairs[0] == "acme/shop/web -> acme/shop/api tcp/1 (policy) 2 times"
