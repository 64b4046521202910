"""All that is known of one way, in the order in which a connection meets it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from agent.errors import HostRefused
from agent.insight.explain.other_cells import OtherCells
from agent.insight.explain.way import PUBLISHED, AskedWay, Informant, WayStep
from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.model.policy import Protocol
from agent.policy.parties import Party


@dataclass(frozen=True, slots=True)
class Explained:
    """What was found of `way`."""

    way: AskedWay
    steps: tuple[WayStep, ...]

    @property
    def works(self) -> bool:
        """Whether nothing that is known here stands in the way."""
        return all(each.ok is not False for each in self.steps)


class Explanation:
    """`instances` are those that run on all cells; `informants` are asked one after the other, `others` before them."""

    def __init__(
        self,
        instances: Callable[[], Mapping[AppName, list[Endpoint]]],
        informants: Iterable[tuple[str, Informant]],
        *,
        others: OtherCells,
    ) -> None:
        self._instances = instances
        self._others = others
        self._informants = tuple(informants)

    async def of(self, source: Party, to: Party, protocol: Protocol, port: int, *, service: str) -> Explained:
        """No packet is sent into the overlay. `service` is protocol and port as they are written."""
        instances = self._instances()
        callers, called = (tuple(instances.get(end, ())) if isinstance(end, AppName) else () for end in (source, to))
        way = AskedWay(source, to, protocol, port, service, callers, called)
        told = await self._others.told(way)
        way = replace(way, answered=told.answered)
        steps: list[WayStep] = []
        for name, each in self._informants:
            try:
                steps += await each.steps(way)
            except HostRefused as error:  # what the kernel does not show keeps nothing else from being said
                steps.append(WayStep(name, None, error.what, error.hint))
            steps += told.steps.get(name, ())
        steps += told.failed
        return Explained(way, tuple(_enough(steps)))


def _enough(steps: Iterable[WayStep]) -> Iterator[WayStep]:
    """A cell that publishes no port stands in the way of no call where another one does."""
    found = tuple(steps)
    is_published = any(each.name == PUBLISHED and each.ok for each in found)
    yield from (replace(each, ok=None) if is_published and each.name == PUBLISHED and not each.ok else each for each in found)
