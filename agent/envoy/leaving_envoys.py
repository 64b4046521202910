"""Envoys that have handed over to a newer one: ended once their last connection has ended, or after a day.

Where there is one its admin socket says so (`succession.py`), so an agent that was away finds it all the same.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agent import log
from agent.envoy.succession import leaving_admins
from agent.errors import Unavailable
from dataplane.envoy.process import admin
from dataplane.envoy.sockets.foreign import listening_process

PERIOD = 5.0  # seconds between looks: as often as Envoy counts its connections
LONGEST = 24 * 3600.0  # seconds: no connection of a tunnel lives for more than an hour, and an old Envoy may have old faults
CONNECTIONS = "server.total_connections"


class LeavingEnvoys:
    """`now` is the time of the files' dates."""

    def __init__(self, admin_socket: Path, *, now: Callable[[], float] = time.time) -> None:
        self._admin = admin_socket
        self._now = now
        self._log = log.get("envoy")

    async def run(self) -> None:
        """Look for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(PERIOD)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """End those that nothing goes through any more. Blocks."""
        for each in leaving_admins(self._admin):
            with suppress(OSError, Unavailable):
                self._look_at(each)

    def _look_at(self, leaving: Path) -> None:
        try:
            pid = listening_process(leaving)
        except ConnectionRefusedError:
            leaving.unlink(missing_ok=True)
            return
        left = admin.counters(leaving, (CONNECTIONS,)).get(CONNECTIONS, 1)
        if left == 0 or self._now() - leaving.stat().st_ctime > LONGEST:
            admin.quit_(leaving)
            leaving.unlink(missing_ok=True)
            self._log.info("former_envoy_ended", pid=pid, connections=left)
