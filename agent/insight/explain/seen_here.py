"""What this cell alone sees of a way that another cell has asked about: of its own containers, and nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address

from agent.errors import HostRefused
from agent.insight.explain.told import ENCRYPTION, AskedCell, KnownStep
from agent.insight.explain.way import AskedWay, Informant, WayStep
from agent.model.cell import Endpoint
from agent.policy.language.ports import parse_one
from agent.policy.parties import Party, party_of


class SeenHere:
    """`endpoints` are those of all cells, of which those of `cell` are here."""

    def __init__(
        self,
        informants: Iterable[tuple[str, Informant]],
        *,
        cell: str,
        endpoints: Callable[[], Mapping[IPv4Address, Endpoint]],
    ) -> None:
        self._informants = tuple(informants)
        self._cell = cell
        self._endpoints = endpoints

    async def known(self, question: AskedCell) -> Sequence[KnownStep]:
        """Raises InvalidInput for what is no question."""
        source, to = party_of(question.source), party_of(question.to)
        protocol, port = parse_one(question.service)
        way = AskedWay(source, to, protocol, port, question.service, self._here(source), self._here(to))
        found: list[KnownStep] = []
        for name, each in self._informants:
            try:
                steps = await each.steps(way)
            except HostRefused as error:
                steps = (WayStep(name, None, error.what, error.hint),)
            # how it goes from cell to cell the other one knows
            found += (KnownStep(name, step) for step in steps if step.name != ENCRYPTION)
        return found

    def _here(self, party: Party) -> tuple[Endpoint, ...]:
        return tuple(each for each in self._endpoints().values() if (each.cell, each.app) == (self._cell, party))
