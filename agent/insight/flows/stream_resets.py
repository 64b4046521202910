"""Streams in tunnels that were reset: by an app, or by the agent, which cuts them and says so a moment before or after.

The kernel says of no socket who has destroyed it. So a reset waits for that moment, and is told as an end only if the agent has
not cut a stream between the same ends.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final

from agent.insight.flows.live_flow import LiveFlow
from dataplane.flows.tunnel_table import StreamEnds

MOMENT: Final = 0.5  # seconds
MOST: Final = 4_096  # that wait


class StreamResets:
    """All times are in seconds of one clock."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, StreamEnds, LiveFlow]] = deque(maxlen=MOST)
        self._cut: OrderedDict[StreamEnds, float] = OrderedDict()  # the oldest first

    def cut(self, ends: StreamEnds, *, now: float) -> None:
        """The agent has cut what was between these."""
        self._forget(now)
        self._cut[ends] = now + MOMENT
        self._cut.move_to_end(ends)
        self._waiting = deque((each for each in self._waiting if each[1] != ends), maxlen=MOST)

    def add(self, ends: StreamEnds, flow: LiveFlow, *, now: float) -> None:
        """One was reset."""
        self._forget(now)
        if ends not in self._cut:
            self._waiting.append((now + MOMENT, ends, flow))

    def due(self, *, now: float) -> Iterator[LiveFlow]:
        """Those that have ended, and were not cut."""
        while self._waiting and self._waiting[0][0] <= now:
            yield self._waiting.popleft()[2]

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def _forget(self, now: float) -> None:
        """What was cut so long ago that its resets have come, or never do."""
        while self._cut and next(iter(self._cut.values())) <= now:
            self._cut.popitem(last=False)
