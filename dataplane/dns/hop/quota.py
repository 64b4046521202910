"""How many names of the outside one container may ask for, since the hop answers for all of them. Pure."""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

RATE: Final = 200.0  # a second
BURST: Final = 400.0
MOST: Final = 4_096  # containers that are counted


class Quota:
    """A credit for each container, which comes back with time. `clock` is in seconds and never jumps."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._credits: dict[IPv4Address, tuple[float, float]] = {}  # what there was, and when

    def takes(self, client: IPv4Address) -> bool:
        """Whether it may ask once more, which it then has."""
        now = self._clock()
        if len(self._credits) > MOST:
            self._credits.clear()
        had, then = self._credits.get(client, (BURST, now))
        credit = min(BURST, had + (now - then) * RATE)
        taken = credit >= 1
        self._credits[client] = credit - taken, now
        return taken
