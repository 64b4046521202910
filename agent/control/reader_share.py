"""How much of the agent's time each reader's requests get: the loop that serves them also carries out revokes.

Connections are counted elsewhere; one of them may ask again and again. Root's requests do not wait.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

AT_ONCE = 2
"""Requests of one user that are worked on; the others wait for their turn."""
REST = 0.05
"""Seconds for which a place is empty after a request, or for as long as the request took: reading and writing are work, too."""


class ReaderShare:
    """One per server."""

    def __init__(self) -> None:
        self._places: defaultdict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))  # by uid

    @contextlib.asynccontextmanager
    async def turn(self, uid: int) -> AsyncIterator[None]:
        """Wait until a request of this user may be worked on."""
        if uid == 0:
            yield
            return
        places, loop = self._places[uid], asyncio.get_running_loop()
        await places.acquire()
        began = loop.time()
        try:
            yield
        finally:
            loop.call_later(max(REST, loop.time() - began), places.release)
