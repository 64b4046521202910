"""What the demos show and judge: apps that are started, commands run inside, pages that come, connections that are refused."""

import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.errors import RAISED
from lab.apps import App, run_app
from lab.calls import Caller
from lab.cell import Cell
from lab.children import Finished
from lab.screen import Screen, spoken

WEB, API = "acme/shop/web", "acme/shop/api"
ROUTE = "api.apps.internal"
PORT, TLS_PORT = 8080, 61443
CURL = ("curl", "-sS", "-m5")
PAGE = Path(__file__).parent / "page.py"
TRUST = f'{shlex.join(CURL)} -w "HTTP %{{http_code}}" --cacert "$CF_SYSTEM_CERT_PATH"'
POLICIES = "see the policies in 'cellnet status'"
RULES = "see the rules: iptables-save in the cell"


@dataclass(frozen=True, slots=True)
class Stage:
    """`web` calls `api`; `caller` measures inside web."""

    screen: Screen
    api: App
    web: App
    caller: Caller

    @property
    def url(self) -> str:
        """Where api answers in plain text."""
        return f"http://{self.api.address}:{PORT}/"

    def inside(self, app: App, *argv: str) -> Finished:
        """Run a command in an app's namespace and show it."""
        done = app.exec(*argv)
        self.screen.ran(f"cellnet exec {app.name} -- {shlex.join(argv)}", seconds=done.seconds, at=place(app.cell))
        self.screen.came(done.out + done.err)
        return done

    def call(self, app: App) -> Finished:
        """A request for api's page in plain text."""
        return self.inside(app, *CURL, "-w", "HTTP %{http_code}", self.url)

    def expect_page(self, app: App, done: Finished, *, told: str = "200 OK, and api sees {name}'s own address") -> None:
        """Judge what `call` has returned."""
        self.screen.expect(
            done.code == 0 and "HTTP 200" in done.out and f"to {app.address}" in done.out,
            told=told.format(name=app.name),
            otherwise=f"exit code {done.code} and no page for {app.address}",
            hint=POLICIES,
        )

    def expect_refused(self, port: int, *, told: str) -> None:
        """Judge a connection of web's."""
        found = self.caller.ask("connect", self.api, port)
        self.screen.expect(
            found.outcome == "refused",
            told=f"{told}, in {spoken(found.seconds)}",
            otherwise=f"{found.outcome} after {spoken(found.seconds)}, not refused",
            hint=RULES,
        )

    def run(self, cell: Cell, *words: str, good: int = 0) -> bool:
        """Run `cellnet WORDS` in a cell and show it; whether it ended as it should. Said is only what is wrong."""
        done = cell.cellnet(*words)
        self.screen.ran(f"cellnet {shlex.join(words)}", seconds=done.seconds, at=place(cell))
        self.screen.came(done.out + done.err)
        return done.code == good or self.screen.expect(
            False, told="", otherwise=f"exit code {done.code}", hint="see 'cellnet status'"
        )


S = TypeVar("S", bound=Stage)


def play(stage: S, steps: Iterable[Callable[[S], None]]) -> None:
    """Every step, also after one that came to nothing; then the caller goes."""
    try:
        for step in steps:
            try:
                step(stage)
            except RAISED as error:
                stage.screen.expect(False, told="", otherwise=error.what, hint=error.hint)
    finally:
        stage.caller.close()


def place(cell: Cell) -> str:
    """What stands before a prompt: nothing where there is one cell."""
    return f"cell-{cell.number}" if cell.segment else ""


def started(screen: Screen, cell: Cell, app: str, *command: str, name: str = "", options: tuple[str, ...] = ()) -> App:
    """Start an app and show how."""
    since = time.monotonic()
    named = ["--name", name] if name else []
    made = run_app(cell, app, *command, name=name or app.rpartition("/")[2], options=options)
    shown = shlex.join([*named, *options, "--", *(Path(word).name if word.endswith(".py") else word for word in command)])
    screen.ran(f"cellnet run --app {app} {shown} &", seconds=time.monotonic() - since, at=place(cell))
    return made
