"""One turn of the loop: who waits for it, what came of it, and how long to wait after one that failed."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Self

from agent.errors import CellnetError, HostRefused
from dataplane.flows.cut import Receipt
from dataplane.plan import Plan


@dataclass(frozen=True, slots=True)
class TurnReport:
    """What a turn did. `problem`: the turn as a whole failed and is tried again; `failures`: single containers that did;
    `overlay`: the way to other cells did, while this cell's containers have theirs.
    """

    changes: int = 0
    plan: Plan | None = None
    failures: Mapping[IPv4Address, HostRefused] = field(default_factory=dict)
    receipt: Receipt | None = None
    repair: bool = False
    problem: CellnetError | None = None
    overlay: HostRefused | None = None
    ended: float = 0.0
    milliseconds: float = 0.0

    def timed(self, started: float, ended: float) -> Self:
        """The same, with its end and duration; in seconds of a clock that never jumps."""
        return replace(self, ended=ended, milliseconds=(ended - started) * 1000)

    def of(self, address: IPv4Address) -> CellnetError | None:
        """Why the workload at `address` is not in place after this turn, None if it is."""
        return self.problem or self.failures.get(address)


IDLE = TurnReport()


class Waiters:
    """Those who wait for one turn's report."""

    def __init__(self, futures: list[asyncio.Future[TurnReport]]) -> None:
        self._futures = futures

    def end(self, report: TurnReport) -> None:
        """Give it to them; who gave up meanwhile is passed over."""
        for future in self._futures:
            if not future.done():
                future.set_result(report)


class Turns:
    """Kicks coalesced into turns."""

    def __init__(self) -> None:
        self._kicked = asyncio.Event()
        self._futures: list[asyncio.Future[TurnReport]] = []

    def kick(self) -> None:
        """Ask for a turn."""
        self._kicked.set()

    async def next(self) -> TurnReport:
        """Ask for a turn and wait for its report; one that is under way does not count."""
        future: asyncio.Future[TurnReport] = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        self.kick()
        return await future

    async def begin(self, *, within: float | None) -> Waiters:
        """Wait for a kick, `within` seconds at most (None: for ever); from here on kicks count for the turn after."""
        with contextlib.suppress(TimeoutError):  # not wait_for, which loses a cancellation that comes with the kick
            async with asyncio.timeout(within):
                await self._kicked.wait()
        self._kicked.clear()
        waiting, self._futures = Waiters(self._futures), []
        return waiting
