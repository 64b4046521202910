"""Takes this cell from one mode of mutual TLS to another as soon as nothing is lost by it, and reports how far that is.

What it waits for it looks for itself, in the containers' socket tables: an agent that was restarted knows of no earlier look.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent import log
from agent.cells.tunnel_mode import Stage, TunnelMode
from agent.complaint import Complaints
from agent.config.config import Mtls
from agent.errors import RAISED
from agent.model.cell import Cell, CellRecord
from agent.model.status import Part, Problem
from agent.pacing import Backoff
from agent.wording import listed, natural

PERIOD = 10.0  # seconds between looks
SOON, LATER = 0.2, 5.0  # on the way to a mode with tunnels, at first and after a while; LATER on the way back
UNUSED_SECONDS = 30.0  # so long unused, and the listeners go: other cells may hear late that this one takes no tunnels


@dataclass(frozen=True, slots=True)
class TunnelUse:
    """`tunnels` lead to containers of this cell; `calls` of its containers are in tunnels."""

    tunnels: int
    calls: int


@dataclass(frozen=True, slots=True)
class MutualTlsRow:
    """`in_force`: this cell has come to its `mode`. `plain_cells` take no tunnels, by their own word.

    Of the last look, null where the mode has none of them: `plain_flows` are TCP connections outside of tunnels; after a mode
    with tunnels, `tunnels` lead here still, and `calls` from here are in some.
    """

    mode: str
    in_force: bool
    plain_cells: tuple[str, ...] = ()
    plain_flows: int | None = None
    tunnels: int | None = None
    calls: int | None = None


class Looks(Protocol):
    """What is looked at (agent/daemon/tunnel_looks.py). Raises HostRefused."""

    async def unserved(self) -> Sequence[str]:
        """Containers that have yet to get what their mode needs."""

    def is_attaching(self) -> bool:
        """Whether a container is on its way in."""

    async def use(self) -> TunnelUse:
        """What would end with the listeners."""

    async def plain_flows(self) -> int | None:
        """Open TCP connections of containers in no tunnel."""


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """`announced` is what the store has of this cell; `elapsed` is a clock in seconds that never jumps."""

    peers: Callable[[], Sequence[Cell]]
    announced: Callable[[], CellRecord | None]
    elapsed: Callable[[], float]


class Rollout(Part):
    """One per agent. `on_change` hears that the stage is another."""

    def __init__(self, mode: TunnelMode, looks: Looks, facts: RolloutFacts, *, on_change: Callable[[], None]) -> None:
        self._mode = mode
        self._looks = looks
        self._facts = facts
        self._on_change = on_change
        self._unserved: Sequence[str] = ()
        self._use: TunnelUse | None = None
        self._plain: int | None = None
        self._used = facts.elapsed()
        self._log = log.get("mutual_tls")
        self._failures = Complaints(self._log, failed="cannot_look")
        self._pauses = Backoff(first=SOON, longest=LATER)

    def problems(self) -> Iterator[Problem]:
        """What stands in the way of the mode, and living cells that a strict one cannot call."""
        if self._mode.is_arriving:
            where = f": no tunnels end yet in {listed(self._unserved)}" if self._unserved else ""
            hint = "wait a moment; if this stays, see what `status` says of Envoy and of these containers"
            yield Problem("cell", f"mutual TLS ({self._mode.mode.value}) is not in force yet{where}", hint)
        if self._mode.mode is Mtls.STRICT:
            for each in self._facts.peers():
                if each.alive_since is not None and not each.record.takes_tunnels:
                    what = f"cell {each.record.name} takes no tunnels, so no container here reaches one there"
                    yield Problem("cell", what, "set tls.mtls to accept there, and wait for its `status`")

    async def rows(self) -> Mapping[str, object]:
        """`mutual_tls`."""
        mode, use = self._mode, self._use
        plain = (each.record.name for each in self._facts.peers() if not each.record.takes_tunnels)
        return {
            "mutual_tls": MutualTlsRow(
                mode.mode.value,
                in_force=mode.stage is (Stage.NONE if mode.mode is Mtls.NONE else Stage.IN_FORCE),
                plain_cells=() if mode.mode is Mtls.NONE else tuple(sorted(plain, key=natural)),
                plain_flows=self._plain,
                tunnels=None if use is None else use.tunnels,
                calls=None if use is None else use.calls,
            )
        }

    async def run(self) -> None:
        """Look for ever. Ends only by cancellation."""
        while True:
            try:
                await self.look()
                self._failures.over()
            except RAISED as error:
                self._failures.about(error)
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        if self._mode.is_arriving:
            return self._pauses.next()
        return LATER if self._mode.is_leaving else PERIOD

    async def look(self) -> None:
        """Go on where it can be gone on, and count what `status` shows. Raises HostRefused."""
        self._mode.keep()
        if self._mode.is_arriving:
            self._unserved = await self._looks.unserved()
            if not self._unserved:
                self._change(self._mode.arrive)
        elif self._mode.is_leaving:
            await self._look_for_use()
        if self._mode.mode is Mtls.ACCEPT and not self._mode.is_arriving:
            self._plain = await self._looks.plain_flows()

    async def _look_for_use(self) -> None:
        self._use, now = await self._looks.use(), self._facts.elapsed()
        announced = self._facts.announced()
        is_known = not self._facts.peers() or (announced is not None and not announced.takes_tunnels)
        if self._use.tunnels or self._use.calls or not is_known or self._looks.is_attaching():
            self._used = now
        elif now - self._used >= UNUSED_SECONDS:
            self._use = None
            self._change(self._mode.leave)

    def _change(self, step: Callable[[], None]) -> None:
        step()
        self._log.info("mutual_tls", mode=self._mode.mode.value, stage=self._mode.stage.value)
        self._on_change()
