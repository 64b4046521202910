"""The other end of caller_script.py: connections made and measured inside a container by a process that is there already."""

import json
import os
import select
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from agent.client.answer import Fields
from agent.errors import Unavailable
from lab.apps import App
from lab.children import Running, opened

SCRIPT = Path(__file__).parent / "caller_script.py"
ANSWER_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`at` is when, on the monotonic clock; `seconds` how long it took from the question on."""

    outcome: str
    at: float
    seconds: float


class Caller:
    """Makes connections from one app. One question at a time; a stream's end is a second answer, for `answer`."""

    def __init__(self, app: App) -> None:
        self._process: Running = app.talk(sys.executable, "-IS", str(SCRIPT))
        self._name = app.name
        self._rest = b""

    def ask(self, do: str, app: App, port: int) -> Answer:
        """`connect`, `poll` (until GET / answers 200) or `stream`. Raises Unavailable if no answer comes."""
        self.begin(do, app, port)
        return self.answer()

    def begin(self, do: str, app: App, port: int) -> None:
        """Ask without waiting for the answer."""
        line = json.dumps({"do": do, "address": str(app.address), "port": port})
        try:
            os.write(opened(self._process.stdin).fileno(), line.encode() + b"\n")
        except BrokenPipeError as error:
            raise self._silent() from error

    def answer(self) -> Answer:
        """The next answer."""
        pipe = opened(self._process.stdout).fileno()
        until = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._rest:
            ready, _, _ = select.select([pipe], [], [], max(until - time.monotonic(), 0.0))
            part = os.read(pipe, 65536) if ready else b""
            if not part:
                raise self._silent()
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        found = Fields.parse(line)
        return Answer(found.text("outcome"), float(found.text("at")), float(found.text("seconds")))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _silent(self) -> Unavailable:
        return Unavailable(f"nothing measures in '{self._name}' anymore", hint=f"see {self._name}.log in the cell's folder")
