"""web and api, whose one policy comes and goes, among any number of rules for others: the stage of two of the scripts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from agent.client.connection import RequestBody
from bench import floor
from bench.floor import Floor
from bench.loads.callers import Caller
from bench.reports.figures import Bar, Series
from bench.script import Stopwatch, repeat
from bench.stages.scene import Rename, Scene, opened

WEB, API = "acme/shop/web", "acme/shop/api"
ALLOWING = f"policies: [{{from: {WEB}, to: {API}, tcp: [8080]}}]\n"
EMPTY = "policies: []\n"


@dataclass(frozen=True, slots=True)
class Shop:
    """`caller` dials api from inside web."""

    scene: Scene
    caller: Caller
    floor: Floor

    def opening(self) -> Rename:
        """The policy's file, ready to be renamed into place."""
        return self.scene.prepare_file("shop.yaml", ALLOWING)

    def closing(self) -> Rename:
        """The same file without the policy."""
        return self.scene.prepare_file("shop.yaml", EMPTY)

    def vanish(self) -> None:
        """Take the file away."""
        (self.scene.cell.policies / "shop.yaml").unlink()

    def allow(self) -> None:
        """The same policy through the control API."""
        body: RequestBody = {"from": WEB, "to": API, "ports": ("tcp/8080",), "name": "bench"}
        self.scene.client.post("/v1/policies/allow", body)

    def delete(self) -> None:
        """And away again."""
        self.scene.client.delete("/v1/policies/bench")

    def settle(self, cause: Callable[[], object]) -> None:
        """Have something enforced. In strict mode a call does not show it: the caller's own Envoy takes any."""
        cause()
        self.scene.sync()


@dataclass(frozen=True, slots=True)
class Around:
    """What else is there: the backend, and how many rules for others; `strict`: all TCP goes through tunnels."""

    backend: str
    rules: int
    strict: bool = False

    @property
    def few(self) -> bool:
        """Whether the bars for 1,000 rules hold."""
        return self.rules <= 1000

    @property
    def latest(self) -> float:
        """Milliseconds within which 99 of 100 changes are enforced among many rules."""
        return {"nft": 100.0, "legacy": 200.0}[self.backend]

    def __str__(self) -> str:
        return f"{self.rules:,} rules around, {self.backend}" + (", strict" if self.strict else "")


Measure = Callable[[Shop, Stopwatch], None]


def among(
    backends: tuple[str, ...],
    rules: tuple[int, ...],
    measure: Measure,
    *,
    rounds: int,
    runs: int,
    looks: float,
    bar: Callable[[str, Around], Bar],
    strict: bool = False,
) -> tuple[tuple[Series, ...], Mapping[str, Series]]:
    """What `measure` finds, and the floors, for each backend and number of rules around; `bar` by what and among what."""
    series: list[Series] = []
    floors: dict[str, Series] = {}
    for backend in backends:
        for around, watch in _watched(backend, rules, measure, rounds=rounds, runs=runs, looks=looks, strict=strict):
            setting = str(around)
            floors[setting] = Series(floor.WHAT, setting, watch.of(floor.WHAT))
            names = [each for each in watch.names() if each != floor.WHAT]
            series += [Series(what, setting, watch.of(what), bar(what, around)) for what in names]
    return tuple(series), floors


def _watched(
    backend: str, rules: tuple[int, ...], measure: Measure, *, rounds: int, runs: int, looks: float, strict: bool
) -> Iterator[tuple[Around, Stopwatch]]:
    with (
        opened(f"firewall.backend={backend}", f"tls.mtls={'strict' if strict else 'none'}", looks=looks) as scene,
        Caller(scene.container(WEB), scene.container(API)) as caller,
        Floor(scene, backend=backend) as by_hand,
    ):
        shop = Shop(scene, caller, by_hand)
        before = 0
        for count in sorted(rules):
            scene.surround(count, before=before)
            before = count
            yield (
                Around(backend, count, strict),
                repeat(lambda watch: _with_floor(shop, measure, watch), rounds=rounds, runs=runs),
            )


def _with_floor(shop: Shop, measure: Measure, watch: Stopwatch) -> None:
    watch.add(floor.WHAT, shop.floor.measure())
    measure(shop, watch)
