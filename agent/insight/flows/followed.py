"""Flows as they begin and end, for those who follow: heard of the kernel only while there are any.

A task of its own hears so many in a time; what comes faster the kernel drops, and that is told. Where one container is the
reason, the kernel passes only some of its events on, so that those of others arrive.
"""

import asyncio
import socket
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from ipaddress import IPv4Address
from typing import Final

from agent.errors import HostRefused
from agent.insight.flows.connection_rate import MANY, ConnectionRate
from agent.insight.flows.floods import LASTS, Floods
from agent.insight.flows.followers import FLOWS, EventKind, Followers
from agent.insight.flows.live_flow import LiveFlow
from agent.insight.flows.named import FlowPlace, NamedFlows
from agent.insight.flows.stream_events import StreamEvents
from agent.insight.flows.stream_resets import MOMENT, StreamResets
from agent.model.status import Part, Problem
from agent.wording import written_moment
from dataplane.flows import flow_table
from dataplane.flows.conntrack import CLOSE, Flow
from dataplane.flows.cut import Receipt
from dataplane.flows.event_filter import SAMPLE, EventFilter
from dataplane.flows.flow_events import Change, FlowEvent, FlowEvents
from dataplane.flows.flow_table import CountedFlow
from dataplane.flows.tunnel_table import StreamEnds, ends_of

SLICE: Final = 64  # events between which other tasks have their turn
SLICES: Final = 12  # that are taken at once
MORE: Final = 8  # times as many, where they are of what floods and not told
REST: Final = 0.05  # seconds between: 15,000 events a second
FLOOD: Final = 15_000  # of one container in a second, of which not all are told
AGAIN: Final = 10.0  # seconds until the kernel is asked again that has refused
RECEIPTS: Final = 64  # that wait
REMEMBERED: Final = 65_536  # flows of which an end was told
NO_EVENTS: Final = "the kernel tells of no flows: net.netfilter.nf_conntrack_events is 0"


class FollowedFlows(Part):
    """One per agent, which listens in the namespace of the agent, and in those of containers. `now` is UTC."""

    def __init__(
        self,
        followers: Followers,
        named: NamedFlows,
        place: FlowPlace,
        *,
        cell: str,
        passes: EventFilter,
        now: Callable[[], datetime],
    ) -> None:
        self._followers = followers
        self._named = named
        self._place = place
        self._cell = cell
        self._passes = passes
        self._streams = StreamEvents(place.state, heard=followers.changed.set)
        self._resets = StreamResets()
        self._now = now
        self._receipts: deque[Receipt] = deque(maxlen=RECEIPTS)
        self._told: OrderedDict[int, None] = OrderedDict()
        self._floods = Floods(most=FLOOD)
        self._rate, self._connections = ConnectionRate(), 0
        self._problem: HostRefused | None = None
        self._settled = asyncio.Event()
        self._beginning = asyncio.Condition()
        self._begun, self._hears = 0, False
        self._asked, self._looked, self._earlier = 0, 0, 0

    def problems(self) -> Iterator[Problem]:
        """Why those who follow are told nothing."""
        if self._problem is not None:
            yield Problem("kernel", self._problem.what, self._problem.hint)

    async def ready(self) -> str:
        """Once all is heard, or cannot be: why there is nothing to be told of flows, "" if there may be.

        In containers that have come since the last look at them, too, as others may have followed before; and the ends of what
        has begun before.
        """
        self._asked += 1
        asked = self._asked
        self._streams.look_anew()
        self._followers.changed.set()
        while self._looked < asked or self._earlier != self._begun:
            if self._problem is not None:
                return self._problem.what
            self._settled.clear()
            await self._settled.wait()
        return "" if flow_table.setting("events") else NO_EVENTS

    async def begins(self, *, after: int) -> int:
        """When flows have begun to be heard of, after the time of this number; its number."""
        async with self._beginning:
            await self._beginning.wait_for(lambda: self._begun != after and self._hears)
        return self._begun

    def know_earlier(self, begun: int) -> None:
        """What had begun before the time of this number is known, as far as it can be: its ends are told."""
        self._earlier = begun
        self._settled.set()

    def goes_on(self, begun: int) -> bool:
        """Whether what began with this number has not ended."""
        return self._hears and self._begun == begun

    def end(self, flow: LiveFlow) -> None:
        """It has ended, unless that is known."""
        if self._is_first_end(int(flow.id, 16)):
            self._followers.tell(EventKind.ENDED, flow, partial(self._view, flow, count=1))

    def cut(self, receipt: Receipt) -> None:
        """These were cut by the agent. What the kernel has told of is not told twice."""
        if self._followers.want({EventKind.CUT, EventKind.ENDED}):
            self._receipts.append(receipt)
            self._followers.changed.set()

    async def run(self) -> None:
        """Hear and tell while anybody follows. Runs until cancelled."""
        changed = self._followers.changed
        while True:
            await changed.wait()
            changed.clear()
            await self._tell_cuts()
            if not self._followers.want(FLOWS):
                self._problem = None
                self._settled.clear()
                continue
            try:
                with closing(FlowEvents(self._passes)) as events:
                    self._problem = None
                    await self._follow(events)
            except HostRefused as error:
                self._problem = error
                self._settled.set()
                await asyncio.sleep(AGAIN)
                changed.set()

    async def _follow(self, events: FlowEvents) -> None:
        loop, changed = asyncio.get_running_loop(), self._followers.changed
        self._floods = Floods(most=FLOOD)
        self._rate = ConnectionRate()
        self._told.clear()
        try:
            while self._followers.want(FLOWS):
                asked = self._asked
                again = await self._streams.keep_up()
                self._looked = asked
                await self._begin()
                self._settled.set()
                loop.add_reader(events.descriptor, changed.set)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._until_next(again)):
                        await changed.wait()
                loop.remove_reader(events.descriptor)  # or a flood would wake the loop without end
                changed.clear()
                await self._take(events)
                await self._take_streams()
                await self._tell_cuts()
                await asyncio.sleep(REST)
        finally:
            loop.remove_reader(events.descriptor)
            self._hears = False
            self._settled.clear()
            self._streams.close()
            self._told.clear()

    async def _begin(self) -> None:
        if self._hears:
            return
        self._begun, self._hears = self._begun + 1, True
        async with self._beginning:
            self._beginning.notify_all()

    def _until_next(self, again: float | None) -> float | None:
        """Seconds: what has flooded is judged again, and what was reset is told, whether anything happens or not."""
        if self._streams.is_behind:
            return 0.0
        is_judged = self._floods.flooding or self._rate.is_high
        due = (again, LASTS if is_judged else None, MOMENT if self._resets else None)
        return min((each for each in due if each is not None), default=None)

    async def _take(self, events: FlowEvents) -> None:
        await self._named.refresh()
        by_source, lost, pressed, left = Counter[IPv4Address](), 0, events.is_pressed, SLICE * SLICES
        flooding = self._floods.flooding
        for _ in range(MORE * SLICES):
            found, dropped = events.take(most=SLICE)
            lost += dropped
            for each in found:
                source = self._blamed(each.counted.flow)
                by_source[source] += 1
                if source in flooding and by_source[source] % SAMPLE:
                    continue  # from before it was known: what is behind it is not heard of before all of it is taken
                left -= 1
                await self._tell(each)
            if left <= 0 or len(found) + dropped < SLICE:
                break
            await asyncio.sleep(0)
        self._tell_lost(lost)
        self._judge(by_source, events, pressed=pressed or lost > 0)
        self._judge_rate(events)

    async def _take_streams(self) -> None:
        now, left = asyncio.get_running_loop().time(), SLICE * SLICES
        for address, found, lost in self._streams.take(most=SLICE):
            for each in found:
                ends = ends_of(each.counted.flow, address, subnet=self._place.subnet)
                if ends is not None:
                    await self._tell_stream(each, ends, now=now)
            self._tell_lost(lost)
            left -= len(found)
            if left <= 0:
                break
            await asyncio.sleep(0)
        for flow in self._resets.due(now=now):
            self._followers.tell(EventKind.ENDED, flow, partial(self._view, flow, count=1))

    async def _tell_stream(self, event: FlowEvent, ends: StreamEnds, *, now: float) -> None:
        flow = event.counted.flow
        if event.change is not Change.BEGUN and not self._is_first_end(flow.id):
            return
        named = await self._named.stream(event.counted, ends)
        if flow.tcp_state == CLOSE:
            self._resets.add(ends, named, now=now)
            return
        kind = EventKind.NEW if event.change is Change.BEGUN else EventKind.ENDED
        self._followers.tell(kind, named, partial(self._view, named, count=1))

    def _tell_lost(self, times: int) -> None:
        if times:
            self._followers.tell_lost(FLOWS, {"dropped": times, "why": "more flows begin and end than the agent takes in"})

    def _judge(self, by_source: Counter[IPv4Address], events: FlowEvents, *, pressed: bool) -> None:
        begun = self._floods.judge(by_source, pressed=pressed, now=asyncio.get_running_loop().time())
        events.let_pass(replace(self._passes, flooding=self._floods.flooding))
        for each in sorted(begun):
            why = f"{self._named.name_of(each)} begins and ends too many flows: one in {SAMPLE} is told until it does no longer"
            self._followers.tell_lost(FLOWS, {"dropped": 0, "why": why})

    def _judge_rate(self, events: FlowEvents) -> None:
        was_high, rate = self._rate.is_high, self._rate
        rate.add(self._connections, now=asyncio.get_running_loop().time())
        self._connections = 0
        events.ask_for_ends(at_once=not rate.is_high)
        if rate.is_high and not was_high:
            why = f"more than {MANY:,} connections begin in a second: until they are fewer, their ends are told minutes late"
            self._followers.tell_lost({EventKind.ENDED}, {"dropped": 0, "why": why})

    def _blamed(self, flow: Flow) -> IPv4Address:
        """What begins it, or the container that is called from outside."""
        return flow.source if flow.source in self._place.overlay else flow.reply_source

    async def _tell(self, event: FlowEvent) -> None:
        flow = event.counted.flow
        if event.change is Change.BEGUN:
            self._connections += flow.protocol == socket.IPPROTO_TCP
            await self._publish(EventKind.NEW, event)
        elif self._is_first_end(flow.id):
            await self._publish(EventKind.CUT if event.change is Change.CUT else EventKind.ENDED, event)

    async def _tell_cuts(self) -> None:
        if self._receipts:
            await self._named.refresh()
        while self._receipts:
            receipt = self._receipts.popleft()
            for flow in receipt.flows:
                if self._is_first_end(flow.id):
                    await self._publish(EventKind.CUT, FlowEvent(Change.CUT, CountedFlow(flow)))
            for each in receipt.streams:
                self._resets.cut(StreamEnds(each.caller, each.target, each.port), now=asyncio.get_running_loop().time())
                named = self._named.cut_stream(each)
                self._followers.tell(EventKind.CUT, named, partial(self._view, named, count=each.count))

    async def _publish(self, kind: EventKind, event: FlowEvent) -> None:
        named = await self._named.named(event.counted)
        if named is not None:
            self._followers.tell(kind, named, partial(self._view, named, count=1))

    def _view(self, flow: LiveFlow, *, count: int) -> dict[str, object]:
        return {"at": written_moment(self._now()), "count": count, **flow.view(cell=self._cell)}

    def _is_first_end(self, number: int) -> bool:
        """Whether no end of this flow was told yet."""
        if number in self._told:
            return False
        self._told[number] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return True
