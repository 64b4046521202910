"""The scene of the demo: cells that run, web that calls api, and what both show and judge."""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from lab.apps import App, run_app
from lab.cell import Cell
from lab.cells import Lab
from lab.children import Finished
from lab.demo.caller import Caller
from lab.demo.policies import API, WEB, Policies, PolicyFiles, StoredPolicies
from lab.demo.screen import Screen, duration

ROUTE = "api.apps.internal"
PORT, TLS_PORT = 8080, 61443
IDLE = ("sleep", "infinity")
CURL = ("curl", "-sS", "-m5")
TRUST = f'{shlex.join(CURL)} -w "HTTP %{{http_code}}" --cacert "$CF_INSTANCE_CA"'
PAGE = Path(__file__).parent / "page_script.py"
OVERLAY_ADDRESS = "200 OK, and api sees the address that {name} has on the overlay"


@dataclass(frozen=True, slots=True)
class Stage:
    """web on the lab's first cell calls api, on its second if there is one; `caller` measures inside web."""

    screen: Screen
    lab: Lab
    api: App
    web: App
    caller: Caller
    policies: Policies

    @property
    def url(self) -> str:
        """Where api answers in plain text."""
        return f"http://{self.api.address}:{PORT}/"

    def inside(self, app: App, *argv: str) -> Finished:
        """Run a command in an app's namespace and show it."""
        done = app.exec(*argv)
        self.screen.ran(f"cellnet exec {app.name} -- {shlex.join(argv)}", seconds=done.seconds, at=app.cell)
        self.screen.came(done.out + done.err)
        return done

    def expect_page(self, app: App, *, url: str | None = None, message: str = OVERLAY_ADDRESS) -> None:
        """Have an app request api's page in plain text, at its address or at `url`, and judge what comes."""
        self.judge_page(app, self.inside(app, *CURL, "-w", "HTTP %{http_code}", url or self.url), message=message)

    def judge_page(self, app: App, done: Finished, *, message: str = OVERLAY_ADDRESS) -> None:
        """Judge what a request of an app's has returned."""
        self.screen.expect(
            done.code == 0 and "HTTP 200" in done.out and f"to {app.address}" in done.out,
            message=message.format(name=app.name),
            otherwise=f"exit code {done.code} and no page for {app.address}",
            hint="see the policies in 'cellnet status'",
        )

    def expect_refused(self, port: int, *, message: str) -> None:
        """Have web connect to api, and judge that it is refused."""
        found = self.caller.ask("connect", self.api, port)
        self.screen.expect(
            found.outcome == "refused",
            message=f"{message}, in {duration(found.seconds)}",
            otherwise=f"{found.outcome} after {duration(found.seconds)}, not refused",
            hint="see the rules: iptables-save in the cell",
        )

    def start_app(self, cell: Cell, app: str, *command: str, name: str = "", options: tuple[str, ...] = ()) -> App:
        """Start one more app and show how."""
        return start_app(self.screen, cell, app, *command, name=name, options=options)


def set_stage(lab: Lab, screen: Screen) -> Stage:
    """Start the cells and both apps."""
    started = _start_cells(lab, screen)
    screen.expect(
        len(started) == len(lab.cells), message="all is well, and each cell has a part of the overlay of its own",
        otherwise="two cells have one subnet", hint="see 'cellnet status'",
    )  # fmt: skip
    first, second = lab.cells[0], lab.cells[min(1, len(lab.cells) - 1)]
    where = "each in a network namespace of its own" if first is second else "on different cells"
    screen.step(f"Start two apps, {where}")
    api = start_app(screen, second, API, "python3", str(PAGE), str(PORT), options=("--port", str(PORT)))
    web = start_app(screen, first, WEB, *IDLE)
    screen.cellnet(second, "route", "map", API, ROUTE)
    screen.cellnet(second, "ps")
    screen.came(f"api has {api.address}, web has {web.address}")
    policies = PolicyFiles(screen, first) if first is second else StoredPolicies(screen, lab.cells[-1])
    return Stage(screen, lab, api, web, Caller(web), policies)


def _start_cells(lab: Lab, screen: Screen) -> set[str]:
    """The parts of the overlay that the cells have."""
    screen.step(f"Start {len(lab.cells)} cells and an etcd" if lab.segment else "Start the agent, Envoy and DNS")
    since = time.monotonic()
    lab.make(["tls.mtls=none"])
    lab.start()
    found = [status.at("cell").text("subnet") for status in lab.wait_well()]
    command = f"cellnet lab up --cells {len(lab.cells)}" if lab.segment else "cellnet up &"
    screen.ran(command, seconds=time.monotonic() - since)
    for cell, subnet in zip(lab.cells, found, strict=True):
        screen.came(f"cell-{cell.number}: {cell.address.ip} on the underlay, containers get addresses of {subnet}")
    return set(found)


def start_app(screen: Screen, cell: Cell, app: str, *command: str, name: str = "", options: tuple[str, ...] = ()) -> App:
    """Start an app and show how."""
    since = time.monotonic()
    made = run_app(cell, app, *command, name=name or app.rpartition("/")[2], options=options)
    named = ["--name", name] if name else []
    shown = shlex.join([*named, *options, "--", *(Path(word).name if word.endswith(".py") else word for word in command)])
    screen.ran(f"cellnet run --app {app} {shown} &", seconds=time.monotonic() - since, at=cell)
    return made
