"""What happens next, by chance: one step out of all that make sense at this moment. The same seed walks the same way again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias, TypeVar

from tests.testlib.oracle import Rule
from tests.walk.model import Model
from tests.walk.outside_ends import NAMES, NETWORKS

APPS = ("acme/shop/web", "acme/shop/api", "acme/blog/web", "zeta/shop/web", "zeta/blog/api", "zeta/blog/job")
STRANGER = "acme/shop/stranger"  # never attached
FILES = ("a.yaml", "b.yaml")
POLICIES = ("one", "two", "three", "four")
SOURCES = (*APPS, *APPS, "same-space", "same-org", "acme/shop/*", "zeta/blog/*", "acme/*/*", "zeta/*/*")
CALLERS = (*APPS, "acme/shop/*", "zeta/blog/*", "acme/*/*", "zeta/*/*")  # of the outside
DESTINATIONS = (*APPS, "acme/shop/*", "zeta/blog/*")
PORTS: Mapping[str, Sequence[object]] = {
    "tcp": (8080, 9000, 61443, "8080-9000", "9000-9010", "any", [8080, 61443], [80, "61000-62000"], [9000, 8080]),
    "udp": (5353, "5000-6000", "any", [53, 5353], 53),
}
MOST, FEW = 9, 5  # containers

Value = TypeVar("Value")
Argument: TypeAlias = "str | int | bool | Rule | Sequence[Rule]"


@dataclass(frozen=True)
class Step:
    """The name of a World's method, and what it is called with."""

    do: str
    arguments: tuple[Argument, ...]

    def __str__(self) -> str:
        return f"{self.do}{self.arguments}" if len(self.arguments) != 1 else f"{self.do}({self.arguments[0]!r})"


class Steps:
    """Draws steps. What is possible depends on the model alone, never on how long something took."""

    def __init__(self, random: Random, model: Model) -> None:
        self._random, self._model = random, model
        self._numbers = iter(range(1, 1_000_000))
        self._rules = iter(range(1_000_000))  # every fourth is an audit's, by which as much passes as by any

    def next(self) -> Step:
        """One that can be done now."""
        possible = [(weight, step) for weight, step in self._possible() if weight]
        return self._random.choices([step for _, step in possible], [weight for weight, _ in possible])[0]

    def _possible(self) -> Iterator[tuple[float, Step]]:
        yield from self._containers()
        yield from self._files()
        yield from self._policies()
        yield from self._faults()
        yield from self._ends_of_faults()

    def _containers(self) -> Iterator[tuple[float, Step]]:
        model, count = self._model, len(self._model.containers)
        number = self._number(lambda each: model.cells[each].agent and model.cells[each].envoy)
        app = self._one(APPS)
        if number and count < MOST:
            in_touch = model.in_touch(number)
            if in_touch or app in model.cells[number].tagged:
                owned, published, limited = (self._random.random() < share for share in (0.4, 0.6, 0.25))
                step = Step("attach", (number, app, f"c{next(self._numbers)}", owned, published, limited))
                yield 60 if count < FEW else 14, step
            if not in_touch:
                yield 3, Step("attach_in_vain", (number, STRANGER))
        for weight, word in ((12, "detach"), (6, "kill_container")) if count > 3 else ():
            names = [
                each.name for each in model.containers.values()
                if (each.owned if word == "kill_container" else model.cells[each.cell].agent and model.cells[each.cell].envoy)
            ]  # fmt: skip
            if names:
                yield weight, Step(word, (self._one(names),))

    def _files(self) -> Iterator[tuple[float, Step]]:
        number, name = self._one(sorted(self._model.cells)), self._one(FILES)
        rules = [self._rule() for _ in range(self._random.randint(1, 4))]
        yield 26, Step("write_file", (number, name, rules))
        yield 10 if self._model.cells[number].disk.get(name) else 2, Step("spoil_file", (number, name))
        if name in self._model.cells[number].disk:
            yield 12, Step("remove_file", (number, name))

    def _policies(self) -> Iterator[tuple[float, Step]]:
        model = self._model
        number = self._number(lambda each: model.cells[each].agent)
        if not number:
            return
        if not model.in_touch(number):  # each of them takes seconds where the outage has not been noticed yet
            silent = not model.cells[number].plugged or model.frozen
            yield 1 if silent else 6, Step("allow_in_vain", (number, self._one(POLICIES), self._rule()))
            return
        name = self._one(POLICIES)
        if name in model.store:
            yield 18, Step("delete", (number, name))
        else:
            yield (
                14,
                Step(
                    "allow", (number, name, self._one(APPS), self._one(APPS), self._one(("tcp/8080", "udp/any", "tcp/61443")))
                ),
            )
        several = self._random.sample(POLICIES, self._random.randint(1, 2))
        yield 16, Step("apply", (number, [{"name": each, **self._rule()} for each in several]))

    def _faults(self) -> Iterator[tuple[float, Step]]:
        """No more than two at a time, or nothing is left to look at."""
        model = self._model
        if self._count() >= 2:
            return
        number = self._one(sorted(model.cells))
        cell = model.cells[number]
        if cell.agent:
            remembers = None in cell.disk.values() or not model.in_touch(number)  # the next agent must go by what is kept
            yield 16 if remembers else 4, Step("kill_agent", (number,))
        if cell.envoy:
            yield 2, Step("kill_envoy", (number,))
            if cell.agent:
                yield 3, Step("restart_envoy", (number,))
        if cell.plugged:
            yield 3, Step("partition", (number,))
        if model.answers:
            yield 4, Step("stop_etcd", (self._random.random() < 0.2,))

    def _ends_of_faults(self) -> Iterator[tuple[float, Step]]:
        cells = self._model.cells
        weight: float = 12 * self._count()
        dead = [number for number, cell in cells.items() if not (cell.agent and cell.envoy)]
        yield from ((weight, Step("start", (number,))) for number in dead)
        weight = weight / 4 if dead else weight  # so that some start out of touch
        yield from ((weight, Step("heal", (number,))) for number, cell in cells.items() if not cell.plugged)
        if not self._model.answers:
            yield weight, Step("start_etcd", ())

    def _count(self) -> int:
        cells = self._model.cells.values()
        return sum(not (each.agent and each.envoy) for each in cells) + sum(not each.plugged for each in cells) + (
            not self._model.answers
        )  # fmt: skip

    def _rule(self) -> Rule:
        rule = dict(self._one((self._between_apps, self._between_apps, self._out, self._within))())
        for protocol in self._one((("tcp",), ("tcp",), ("udp",), ("tcp", "udp"))):
            rule[protocol] = self._one(PORTS[protocol])
        return {**rule, "mode": "audit"} if next(self._rules) % 4 == 0 else rule

    def _between_apps(self) -> Rule:
        return {"from": self._one_or_two(SOURCES), "to": self._one(DESTINATIONS)}

    def _out(self) -> Rule:
        return {"from": self._one_or_two(CALLERS), "to": self._one((*NETWORKS, *NAMES))}

    def _within(self) -> Rule:
        return {"from": self._one(NETWORKS), "to": self._one(DESTINATIONS)}

    def _one_or_two(self, values: Sequence[str]) -> object:
        return self._random.sample(values, 2) if self._random.random() < 0.3 else self._one(values)

    def _number(self, good: Callable[[int], bool]) -> int:
        """Of a cell for which this holds, 0 if there is none."""
        found = [number for number in sorted(self._model.cells) if good(number)]
        return self._one(found) if found else 0

    def _one(self, values: Sequence[Value]) -> Value:
        return self._random.choice(values)
