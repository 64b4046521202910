"""A follower of `/v1/events`: what it has been told so far."""

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from tests.testlib.patience import eventually

Event = Mapping[str, Any]


class EventStream:
    """Follows from when it is made until it is closed. `reads`: whether what comes is taken."""

    def __init__(self, path: Path, query: str = "", *, reads: bool = True) -> None:
        self.events: list[Event] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.sendall(f"GET /v1/events{query} HTTP/1.0\r\n\r\n".encode())
        self._thread = Thread(target=self._read, daemon=True)
        if reads:
            self.read()

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self) -> None:
        """Take what has come, and all that comes; returns when the agent says that it tells."""
        self._thread.start()
        eventually(lambda: self.of("following"))

    def _read(self) -> None:
        with suppress(OSError), self._socket.makefile("rb") as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    self.events.append(json.loads(line[len(b"data: ") :]))

    def of(self, kind: str, **fields: object) -> list[Event]:
        """Those of a kind, with these values."""
        wanted = {"kind": kind, **fields}
        return [each for each in list(self.events) if {name: each.get(name) for name in wanted} == wanted]

    @property
    def lives(self) -> bool:
        """Whether the agent has not ended it."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Follow no longer."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
