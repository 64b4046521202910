"""A follower of `/v1/events` that does as little as possible with what it is told: it counts."""

import re
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

KIND = re.compile(rb"^event: (\w+)$", re.MULTILINE)
DROPPED = re.compile(rb'"kind": "lost", "dropped": [1-9]')
FOLLOWING, LOST = "following", "lost"
WITHIN = 10.0  # seconds


class EventFollower:
    """Follows at the control socket `path` for as long as the context lasts. `counts` by kind."""

    def __init__(self, path: Path) -> None:
        self.counts = Counter[str]()
        self._begun = Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.sendall(b"GET /v1/events HTTP/1.0\r\n\r\n")
        self._thread = Thread(target=self._read, daemon=True)

    def __enter__(self) -> "EventFollower":
        self._thread.start()
        self._begun.wait(WITHIN)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        rest = b""
        with suppress(OSError):
            while part := self._socket.recv(1 << 20):
                whole, _, rest = (rest + part).rpartition(b"\n")
                found = Counter(each.decode() for each in KIND.findall(whole))
                found[LOST] = len(DROPPED.findall(whole))  # what is only told late is not lost
                self.counts.update(found)
                if self.counts[FOLLOWING]:
                    self._begun.set()
