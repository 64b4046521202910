"""An app in a cell: a `cellnet run` beside this process, and its attachment as the agent reports it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from agent.client.connection import Refused, attachment_address
from agent.client.location import Location
from agent.errors import HostRefused, Unavailable
from lab import children
from lab.cell import Cell
from lab.children import Finished, Running

ATTACHED_SECONDS = 20.0
POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class App:
    """A running instance; `pin` is its network namespace, `runner` the `cellnet run` that owns it."""

    cell: Cell
    name: str
    address: IPv4Address
    pin: Path
    environment: Mapping[str, str]
    runner: Running

    def exec(self, *argv: str, timeout: float = 60.0) -> Finished:
        """Run a command inside: `cellnet exec NAME -- ARGV`."""
        return self.cell.cellnet("exec", self.name, "--", *argv, timeout=timeout)

    def talk(self, *argv: str) -> Running:
        """Start a command inside with pipes from here to its standard input and output."""
        words = [*children.CELLNET, "exec", self.name, "--", *argv]
        return children.talk(words, netns=self.cell.netns, root=self.cell.root, log=log_of(self.cell, self.name))

    def stop(self, *, seconds: float = 20.0) -> int:
        """End it as Ctrl-C would; returns the exit code of `cellnet run`."""
        self.runner.terminate()
        if not children.ended_within(self.runner, seconds):
            raise HostRefused(f"'{self.name}' does not end", hint="see what it waits for")
        return self.runner.returncode


def log_of(cell: Cell, name: str) -> Path:
    """What the app's processes have written."""
    return cell.root / f"{name}.log"


def run_app(cell: Cell, app: str, *command: str, name: str, options: Sequence[str] = ()) -> App:
    """`cellnet run --app APP --name NAME OPTIONS -- COMMAND`; returns when it is attached.

    Raises Unavailable, with its output, if it ended instead.
    """
    words = ["run", "--app", app, "--name", name, *options, "--", *command]
    log = log_of(cell, name)
    log.unlink(missing_ok=True)
    runner = children.start([*children.CELLNET, *words], netns=cell.netns, root=cell.root, log=log)
    client = Location(root=cell.root, config=None).client()
    until = time.monotonic() + ATTACHED_SECONDS
    while time.monotonic() < until and runner.poll() is None:
        try:
            found = client.get(attachment_address(name))
        except (Refused, Unavailable):
            time.sleep(POLL_SECONDS)
            continue
        address, pin = IPv4Address(found.text("address")), Path(found.text("pin"))
        return App(cell, name, address, pin, found.mapping("environment"), runner)
    output = log.read_text(errors="replace").strip()
    runner.kill()
    runner.wait()
    raise Unavailable(f"'{name}' is not attached: {output or 'it does not answer'}", hint="see the messages above")
