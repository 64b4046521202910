"""Paths that take turns, and the bars they stand under: what the scripts for the data path have in common.

All paths are there at once and take turns in every round, in another order each time. Those that bars speak of are in every
round, those of a chart in every third.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.loads.load import CONNECTIONS, LATENCY, THROUGHPUT, Ends, compiled
from bench.reports.comparison import Figure, Limit, ratio
from bench.stages.paths import Made, Rules, Setting
from bench.stages.scene import short_lived_folder
from dataplane.firewall.backends.backends import Backend
from host.namespace import run_in
from host.process import run

FEW, MANY = 10, 20_000
UNITS = {LATENCY: "µs", CONNECTIONS: "1/s", THROUGHPUT: "Gbit/s"}
NAMES = {LATENCY: "request and answer", CONNECTIONS: "new connections", THROUGHPUT: "throughput"}
EVERY = 3
BARE, TEN, WITH_FEW = "bare", "ten-rule firewall", "cellnet, few rules"
WITHIN_FIVE = {LATENCY: Limit(most=1.05), CONNECTIONS: Limit(least=0.95)}
BESIDE_TEN = {LATENCY: Limit(most=1.2), THROUGHPUT: Limit(least=0.95)}

Make = Callable[[Setting, Path], Made]
Values = Mapping[tuple[str, Setting], list[float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is measured: `rounds` times for so many milliseconds, on paths of `make`, `where` they lead in the figures' names.

    `few` and `many` are the numbers of rules that bars speak of, `chart` those of the paths between them.
    """

    make: Make
    rounds: int
    milliseconds: int
    few: int = FEW
    many: int = MANY
    chart: tuple[Setting, ...] = ()
    where: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A path that can be measured. `seldom` ones are those of the chart."""

    setting: Setting
    made: Made
    ends: Ends
    seldom: bool


def settings(few: int, many: int) -> list[Setting]:
    """Those that bars speak of; the bare path has no backend, so it is under the first."""
    found = [Setting(Rules.NONE, Backend.NFT)]
    for backend in Backend:
        found += [Setting(Rules.TEN, backend), Setting(Rules.OURS, backend, few), Setting(Rules.OURS, backend, many)]
    return found


@contextlib.contextmanager
def ready(plan: Plan) -> Iterator[list[Measured]]:
    """All paths, each with its server."""
    bars = settings(plan.few, plan.many)
    with short_lived_folder() as folder, contextlib.ExitStack() as stack:
        program = compiled(folder)
        found = []
        for number, setting in enumerate([*bars, *(each for each in plan.chart if each not in bars)]):
            made = plan.make(setting, folder / str(number))
            ends = stack.enter_context(Ends(program, client=made.client, server=made.server, address=made.address))
            found.append(Measured(setting, made, ends, seldom=setting not in bars))
        yield found


def measured(plan: Plan) -> tuple[Figure, ...]:
    """The figures of all paths."""
    values: dict[tuple[str, Setting], list[float]] = {}
    with ready(plan) as paths:
        for number in range(plan.rounds):
            for path in random.sample(paths, len(paths)):
                if number % EVERY and path.seldom:
                    continue
                for what in (LATENCY, CONNECTIONS) if path.seldom else UNITS:
                    found = path.ends.measure(what, milliseconds=plan.milliseconds)
                    values.setdefault((what, path.setting), []).append(found)
                forget(path.made)
        order = [each.setting for each in paths]
    return tuple(_figure(values, what, each, plan) for what in UNITS for each in order if (what, each) in values)


def forget(made: Made) -> None:
    """Empty the hosts' tables of connections: all namespaces of the machine share one, and no path may pay for another's."""
    for host in made.hosts:
        run_in(host, lambda: run(["conntrack", "-F"], timeout=30.0))


def _figure(values: Values, what: str, setting: Setting, plan: Plan) -> Figure:
    own = tuple(values[what, setting])
    beside, bars = {}, {}
    for name, other in _yardsticks(setting, plan.few).items():
        of_other = tuple(values[what, other])
        if len(of_other) == len(own):
            beside[name] = ratio(own, of_other)
    if setting.rules is Rules.OURS and setting.count == plan.many and WITH_FEW in beside and what in WITHIN_FIVE:
        bars[WITH_FEW] = WITHIN_FIVE[what]
    if setting.rules is Rules.OURS and TEN in beside and what in BESIDE_TEN:
        bars[TEN] = BESIDE_TEN[what]
    return Figure(NAMES[what] + plan.where, str(setting), UNITS[what], own, beside, bars)


def _yardsticks(setting: Setting, few: int) -> Mapping[str, Setting]:
    found = {}
    if setting.rules is not Rules.NONE:
        found[BARE] = Setting(Rules.NONE, Backend.NFT)
    if setting.rules is Rules.OURS:
        found[TEN] = Setting(Rules.TEN, setting.backend)
        if setting.count != few:
            found[WITH_FEW] = Setting(Rules.OURS, setting.backend, few)
    return found
