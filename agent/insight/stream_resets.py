"""Streams in tunnels that were reset: by an app, or by the agent, which cuts them and says so a moment before or after.

The kernel says of no socket who has destroyed it. So a reset waits for that moment, and is told as an end only if the agent has
not cut a stream between the same ends.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from agent.insight.live_flow import LiveFlow
from dataplane.flows.tunnel_table import StreamEnds

MOMENT: Final = 0.5  # seconds
MOST: Final = 4_096  # that wait


class StreamResets:
    """All times are in seconds of one clock."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, StreamEnds, LiveFlow]] = deque(maxlen=MOST)
        self._cut: dict[StreamEnds, float] = {}

    def cut(self, ends: StreamEnds, *, now: float) -> None:
        """The agent has cut what was between these."""
        self._cut[ends] = now + MOMENT
        self._waiting = deque((each for each in self._waiting if each[1] != ends), maxlen=MOST)

    def add(self, ends: StreamEnds, flow: LiveFlow, *, now: float) -> None:
        """One was reset."""
        self._cut = {each: until for each, until in self._cut.items() if until > now}
        if ends not in self._cut:
            self._waiting.append((now + MOMENT, ends, flow))

    def due(self, *, now: float) -> Iterator[LiveFlow]:
        """Those that have ended, and were not cut."""
        while self._waiting and self._waiting[0][0] <= now:
            yield self._waiting.popleft()[2]

    def __bool__(self) -> bool:
        return bool(self._waiting)
