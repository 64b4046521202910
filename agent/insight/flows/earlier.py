"""Flows that had begun before somebody followed: of those the kernel may tell nothing, so looks tell when they have ended."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from agent.errors import HostRefused
from agent.insight.flows.followed import FollowedFlows
from agent.insight.flows.live_flow import CLOSED, LiveFlow
from agent.insight.flows.looks import FlowLook, FlowLooks

MOST: Final = 16_384  # of which an end is told
EVERY: Final = 2.0  # seconds between two looks
MOMENT: Final = 0.5  # seconds after which what was cut is known as cut


class EarlierFlows:
    """One per agent."""

    def __init__(self, looks: FlowLooks, followed: FollowedFlows) -> None:
        self._looks = looks
        self._followed = followed
        self._open: dict[str, LiveFlow] = {}

    async def run(self) -> None:
        """Look, as long as somebody follows and some of them are open. Runs until cancelled."""
        begun = 0
        while True:
            begun = await self._followed.begins(after=begun)
            self._open.clear()
            try:
                await self._follow(begun)
            except HostRefused:  # whoever asks for a look is told why
                self._followed.know_earlier(begun)
                await asyncio.sleep(EVERY)

    async def _follow(self, begun: int) -> None:
        look = await self._looks.look(new=True)
        self._open = {each.id: each for each in look.flows[:MOST] if each.state != CLOSED}
        self._followed.know_earlier(begun)
        while self._open and self._followed.goes_on(begun):
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._followed.begins(after=begun)
            if not self._followed.goes_on(begun):
                return
            ended = list(self._ended(await self._looks.look()))
            if ended:
                await asyncio.sleep(MOMENT)
            for each in ended:
                self._followed.end(each)

    def _ended(self, look: FlowLook) -> Iterator[LiveFlow]:
        """Those that are closed now, or there no longer; of what a look has not seen it tells only where it saw all."""
        now = {each.id: each for each in look.flows}
        for number, flow in list(self._open.items()):
            found = now.get(number)
            if found is None and look.whole:
                found = replace(flow, state=CLOSED)
            if found is not None and found.state == CLOSED:
                del self._open[number]
                yield found
