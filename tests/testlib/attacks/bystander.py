"""A caller that has nothing to do with an attack: call after call beside it, each on a connection of its own."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

WORDS = b"are you there?"
PAUSE = 0.005


@dataclass
class Bystander:
    """`dial` opens a connection to an app that echoes. `failures` are calls that did not come to their end."""

    dial: Callable[[], socket.socket]
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bystander", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            try:
                with self.dial() as connection:
                    connection.sendall(WORDS)
                    assert connection.recv(len(WORDS), socket.MSG_WAITALL) == WORDS
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))
            else:
                self.seconds.append(time.monotonic() - began)
            time.sleep(PAUSE)

    def calls(self) -> int:
        """Those that came to their end so far."""
        return len(self.seconds)

    def slowest(self) -> float:
        """In seconds, of all but one in a hundred."""
        found = sorted(self.seconds)
        return found[min(len(found) * 99 // 100, len(found) - 1)]
