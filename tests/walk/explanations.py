"""What `explain` says of calls beside what comes of them: asked on any cell, of any two apps, and of the outside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

from tests.testlib.oracle import TUNNELS
from tests.testlib.patience import becomes
from tests.walk.calls import Call, Outcome
from tests.walk.model import Model
from tests.walk.outside_ends import ADDRESSES, HOSTS
from tests.walk.world import World

ASKED = 4  # ways after a step
PATIENCE = 30.0  # seconds until a cell sees that a tunnel answers again


@dataclass(frozen=True, order=True)
class Question:
    """A way as `explain` is asked about it, and the cells on which it is known."""

    source: str
    to: str
    port: str
    cells: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.source} -> {self.to} {self.port}"


class Explanations:
    """Draws the ways that are asked about."""

    def __init__(self, world: World, random: Random) -> None:
        self._world, self._random = world, random

    def compare(self, expected: Mapping[Call, Outcome | None]) -> int:
        """Ask about some of these calls, and return how many. All is well with the cells, or none is asked."""
        model = self._world.model
        if not model.is_well():
            return 0
        found = dict[Question, set[Outcome | None]]()
        for call, outcome in expected.items():
            for question in _questions(model, call):
                found.setdefault(question, set()).add(outcome)
        sure = sorted(question for question, outcomes in found.items() if len(outcomes) == 1 and None not in outcomes)
        chosen = self._random.sample(sure, min(ASKED, len(sure)))
        for each in chosen:
            works, number = found[each] == {Outcome.ALLOWED}, self._random.choice(each.cells)
            becomes("", partial(self._mistake, each, number, works), seconds=PATIENCE)
        return len(chosen)

    def _mistake(self, asked: Question, number: int, works: bool) -> str:
        """What a cell says, if that is not so."""
        said = self._world.explanation(number, source=asked.source, to=asked.to, port=asked.port)
        return (
            ""
            if said["works"] is works
            else f"{asked}, which {'works' if works else 'does not work'}: cell {number} says {said}"
        )


def _questions(model: Model, call: Call) -> Iterator[Question]:
    """How a call is asked about; not at all where some instances of an app are called, and others cannot be."""
    service, everywhere = f"{call.protocol}/{call.port}", tuple(model.cells)
    source, to = model.containers.get(call.source), model.containers.get(call.to)
    if call.port == TUNNELS:
        return
    if source is not None and to is not None:
        yield Question(source.app, to.app, service, everywhere)
    elif source is not None and not any(each.limited for each in model.instances(source.app)):
        # what the names of an address are, the cell alone knows that was asked for them
        cells = {each.cell for each in model.instances(source.app)}
        if len(cells) == 1 or call.to in ADDRESSES:
            yield Question(source.app, HOSTS.get(call.to, call.to), service, tuple(cells) if call.to in HOSTS else everywhere)
    elif to is not None and all(each.published for each in model.instances(to.app)):
        yield Question(call.source, to.app, service, everywhere)
