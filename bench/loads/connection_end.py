"""The end of a live connection, as its client sees it.

Both ends are held here and driven in turn by one loop, so that no scheduling of ours lies between cause and observation.
"""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from agent.errors import Unavailable
from bench.loads.callers import PATIENCE, PAUSE

PART = bytes(512)
POOL = ThreadPoolExecutor(1)


@dataclass(frozen=True, slots=True)
class End:
    """When the client got its last byte and when its reset, in milliseconds after the cause."""

    last_byte: float
    reset: float


def watched(sender: socket.socket, client: socket.socket, cause: Callable[[], None], *, pause: float = PAUSE) -> End:
    """Keep `sender` sending, with a `pause` between, until `client` sees a reset. Raises Unavailable if it never does."""
    for each in {sender, client}:
        each.setblocking(False)
    started = last = time.monotonic()
    causing = POOL.submit(cause)  # a request blocks until it is answered
    while time.monotonic() < started + PATIENCE:
        time.sleep(pause)
        try:
            _send(sender, tolerant=sender is not client)
            if client.recv(65536):
                last = time.monotonic()
        except BlockingIOError:
            continue
        except ConnectionError:
            end = End((last - started) * 1000, (time.monotonic() - started) * 1000)
            causing.result()
            return end
    raise Unavailable("the connection was not cut", hint="see the cell's log")


def _send(sender: socket.socket, *, tolerant: bool) -> None:
    """The server's own reset is not the client's."""
    try:
        sender.send(PART)
    except BlockingIOError:
        pass
    except ConnectionError:
        if not tolerant:
            raise
