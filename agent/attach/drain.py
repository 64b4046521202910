"""Before maintenance: neither names nor published ports lead to what is to go, its connections have time to end, then it is
detached.

The order is in the database, so an agent that starts again goes on with it, after a reboot too. A cell that is drained takes no
attach until the order is taken back. What keeps one from going is a problem in `status`, and tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

from agent import log
from agent.attach.transaction import AttachTransactions
from agent.complaint import Complaints
from agent.errors import RAISED, NotFound, Unavailable
from agent.model.attachment import Attachment
from agent.model.drain import DrainOrder, DrainTime
from agent.model.status import Part, Problem, moment
from agent.pacing import wait_for_event
from agent.store.ledger import Ledger

LINGER = 2.0  # seconds: a caller may have had the address a moment ago, and answers last up to one second
PAUSE = 0.25
UNDO = "when the maintenance is over: cellnet drain --undo"


@dataclass(frozen=True, slots=True)
class DrainingInstance:
    """`connections` are those of TCP that are open, or else the flows of UDP that are in use, None before the first look;
    `until`: when they are cut.
    """

    name: str
    app: str
    connections: int | None
    until: datetime


@dataclass(frozen=True, slots=True)
class DrainRow:
    """`cell`: the whole cell is drained, since `since`, and takes no attach. `waiting` are not detached yet, by name."""

    cell: bool
    since: datetime | None
    waiting: tuple[DrainingInstance, ...]


class Drain(Part):
    """`count` has how many connections are open at each address, and may fail; `withhold` takes which instances are named no
    longer, `announce` whether the whole cell is drained, for the other cells; `now` is seconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        attaching: AttachTransactions,
        *,
        count: Callable[[Collection[IPv4Address]], Awaitable[Mapping[IPv4Address, int]]],
        withhold: Callable[[Callable[[Attachment], bool]], None],
        announce: Callable[[bool], None],
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._attaching = attaching
        self._count = count
        self._withhold = withhold
        self._announce = announce
        self._now = now
        self._order = ledger.drain_order()
        self._open: Mapping[IPv4Address, int] = {}
        self._changed = asyncio.Event()
        self._log = log.get("drain")
        self._complaints = Complaints(self._log, failed="not_drained")
        self._tell()

    def problems(self) -> Iterable[Problem]:
        """What keeps instances from going."""
        return [Problem("cell", f"not drained yet: {each.what}", each.hint) for each in self._complaints.standing.values()]

    async def rows(self) -> Mapping[str, object]:
        """`drain`, None while nothing is."""
        return {"drain": self.row() if self._order else None}

    def row(self) -> DrainRow:
        """How far it is."""
        waiting = [
            DrainingInstance(each.name, str(each.app), self._open.get(each.address), _utc(time.until))
            for each, time in self._in_order(self._ledger.all())
        ]
        since = None if self._order.cell is None else _utc(self._order.cell.since)
        return DrainRow(self._order.cell is not None, since, tuple(waiting))

    def refusal(self) -> Unavailable | None:
        """Why nothing is attached now."""
        if self._order.cell is None:
            return None
        return Unavailable(f"this cell is drained since {_utc(self._order.cell.since):%Y-%m-%d %H:%M:%S} UTC", hint=UNDO)

    def is_leaving(self, each: Attachment) -> bool:
        """Whether it is on its way out: its published ports take no new call."""
        return self._order.time_of(each) is not None

    def begin(self, names: Collection[str], *, seconds: float) -> None:
        """Drain these, or the whole cell. Their connections have `seconds` to end. Raises NotFound, HostRefused."""
        time = DrainTime(self._now(), self._now() + seconds)
        self._follow(self._order.some(self._guids(names), time) if names else self._order.all_of(time))

    def undo(self) -> bool:
        """What is not detached yet stays, and attaches are taken again. False if nothing was being drained."""
        was = bool(self._order)
        if was:
            self._follow(DrainOrder())
        return was

    def _guids(self, names: Collection[str]) -> set[str]:
        held = {each.name: each.guid for each in self._attaching.attached()}
        for name in names:
            if name not in held:
                raise NotFound(f"there is no attachment '{name}'", hint="see 'cellnet ps'")
        return {held[name] for name in names}

    async def run(self) -> None:
        """Detach what has no connections any more, or has had its time. Ends only by cancellation."""
        while True:
            await wait_for_event(self._changed, within=PAUSE if self._order.instances or self._leaving() else None)
            self._changed.clear()
            try:
                await self._look()
            except RAISED as error:
                self._complaints.about(error)
            else:
                self._complaints.over()

    async def _look(self) -> None:
        leaving = self._leaving()
        if leaving:
            self._open = await self._count([each.address for each, _ in leaving])
        over = [each for each, time in leaving if self._is_over(each, time)]
        await asyncio.gather(*map(self._detach, over))
        gone = self._order.instances.keys() - {each.guid for each in self._ledger.all()}
        if gone:
            self._follow(self._order.without(gone))

    def _is_over(self, each: Attachment, time: DrainTime) -> bool:
        now = self._now()
        return now >= time.until or (now >= time.since + LINGER and self._open.get(each.address) == 0)

    async def _detach(self, each: Attachment) -> None:
        if not self.is_leaving(each):  # taken back meanwhile
            return
        try:
            await self._attaching.detach(each.name)
        except RAISED as error:
            self._complaints.about(error, key=each.guid, name=each.name)
        else:
            self._complaints.over(key=each.guid)
            self._log.info("drained", name=each.name, app=str(each.app), connections=self._open.get(each.address))

    def _leaving(self) -> list[tuple[Attachment, DrainTime]]:
        return self._in_order(self._attaching.attached()) if self._order else []

    def _in_order(self, held: Iterable[Attachment]) -> list[tuple[Attachment, DrainTime]]:
        found = ((each, self._order.time_of(each)) for each in held)
        return [(each, time) for each, time in found if time is not None]

    def _follow(self, order: DrainOrder) -> None:
        self._ledger.set_drain_order(order)
        self._order = order
        self._complaints.over_for_all_but({each.guid for each, _ in self._leaving()})
        self._tell()
        self._changed.set()

    def _tell(self) -> None:
        order = self._order
        self._withhold(lambda each: order.time_of(each) is not None)
        self._announce(order.cell is not None)


def _utc(seconds: float) -> datetime:
    found = moment(seconds)
    assert found is not None
    return found
