"""What is asked about, and what is said of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from typing import Protocol as Interface

from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.model.policy import Protocol
from agent.policy.parties import Party

PUBLISHED: Final = "published"
"""The step of a port that leads inside: one such cell is enough, since callers outside choose the host that they call."""


@dataclass(frozen=True, slots=True)
class WayStep:
    """One thing that it depends on. `ok` is None for what does not decide, or is not known here."""

    name: str
    ok: bool | None
    what: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class AskedWay:
    """One connection, `service` as tcp/8080. `callers` and `called` are the instances of its ends, on whatever cell.

    `answered` are other cells that have said themselves what listens in all of their instances.
    """

    source: Party
    to: Party
    protocol: Protocol
    port: int
    service: str
    callers: tuple[Endpoint, ...] = ()
    called: tuple[Endpoint, ...] = ()
    answered: frozenset[str] = frozenset()

    @property
    def apps(self) -> tuple[tuple[AppName, tuple[Endpoint, ...]], ...]:
        """The ends that are apps, each with its instances."""
        ends = ((self.source, self.callers), (self.to, self.called))
        return tuple((end, found) for end, found in ends if isinstance(end, AppName))

    @property
    def is_between_apps(self) -> bool:
        """Whether it stays inside."""
        return isinstance(self.source, AppName) and isinstance(self.to, AppName)

    @property
    def cells(self) -> frozenset[str]:
        """Where its instances run."""
        return frozenset(each.cell for each in (*self.callers, *self.called))


class Informant(Interface):
    """What knows a part of the way."""

    async def steps(self, way: AskedWay) -> Iterable[WayStep]:
        """What it has to say; nothing where it does not matter. Raises HostRefused."""
