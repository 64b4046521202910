"""The tour: three cells and an etcd. The same policies hold across cells, and go on to hold while parts of it all are dead.

web is on cell 1, api on cell 2; cell 3 is where policies are given, and later a second web. An unexpected answer does not end
the tour.
"""

import time
from dataclasses import dataclass, field

from agent.errors import RAISED
from lab.apps import App
from lab.calls import Caller
from lab.cell import Part
from lab.lab import Lab
from lab.screen import Screen, spoken
from lab.stage import API, CURL, PAGE, PORT, ROUTE, TLS_PORT, TRUST, WEB, Stage, play, started

IDLE = ("sleep", "infinity")
AWAY = "200 OK, and api sees the address that {name} has on the overlay"


@dataclass(frozen=True, slots=True)
class ManyCells(Stage):
    """`more` are the apps that came later."""

    lab: Lab
    more: list[App] = field(default_factory=list)

    def allow(self, port: int, *, at: int) -> None:
        """web may call api on a port from now on, which is told to cell `at`."""
        self.run(self.lab.cells[at - 1], "policy", "allow", WEB, API, f"tcp/{port}")


def run_tour(lab: Lab) -> int:
    """Run all steps in a lab whose folders may be made; returns the exit code, 0 if every answer was as expected."""
    screen = Screen()
    screen.say(f"cellnet lab: {len(lab.cells)} cells, each in a network namespace of its own, on one switch, with one etcd.")
    screen.say("This machine's network takes no part. The times are those of the commands beside them.")
    try:
        stage = _set_up(lab, screen)
        play(stage, (_refused, _allowed, _tls, _scaled, _cut, _without_etcd, _without_agent, _healed))
    except RAISED as error:
        screen.expect(False, told="", otherwise=error.what, hint=error.hint)
    if screen.wrong:
        for cell in lab.cells:
            screen.say(f"\nThe end of the log of cell {cell.number}:\n{cell.last_words()}")
    screen.end()
    return 1 if screen.wrong else 0


def _set_up(lab: Lab, screen: Screen) -> ManyCells:
    screen.step(f"Start {len(lab.cells)} cells and an etcd")
    since = time.monotonic()
    lab.make()
    lab.start()
    found = lab.wait_well()
    screen.ran(f"cellnet lab up --cells {len(lab.cells)}", seconds=time.monotonic() - since)
    for cell, status in zip(lab.cells, found, strict=True):
        screen.came(f"cell-{cell.number}: {cell.address.ip} on the underlay, containers get {status.at('cell').text('subnet')}")
    subnets = {status.at("cell").text("subnet") for status in found}
    screen.expect(
        len(subnets) == len(found), told="all are well, each with a part of the overlay",
        otherwise="two cells have one subnet", hint="see 'cellnet status'",
    )  # fmt: skip

    screen.step("Start two apps, on different cells")
    options = ("--port", str(PORT), "--route", ROUTE)
    api = started(screen, lab.cells[1], API, "python3", str(PAGE), str(PORT), options=options)
    web = started(screen, lab.cells[0], WEB, *IDLE)
    screen.came(f"api has {api.address}, web has {web.address}")
    return ManyCells(screen, api, web, Caller(web), lab)


def _refused(stage: ManyCells) -> None:
    stage.screen.step("web calls api, and no policy allows it")
    stage.inside(stage.web, *CURL, stage.url)
    stage.expect_refused(PORT, told="refused at once by api's cell")


def _allowed(stage: ManyCells) -> None:
    stage.screen.step("A policy is stored from cell 3, where neither of them runs")
    stage.caller.tell("poll", stage.api, PORT)
    time.sleep(0.05)  # it is being refused while the command starts
    since = time.monotonic()
    stage.allow(PORT, at=3)
    found = stage.caller.answer()
    stage.screen.expect(
        found.outcome == "200",
        told=f"web got 200 OK {spoken(found.at - since)} after the command was typed",
        otherwise=f"web was not answered: {found.outcome}",
        hint="see 'cellnet policy list' on each cell",
    )
    stage.run(stage.lab.cells[1], "policy", "list")
    stage.expect_page(stage.web, stage.call(stage.web), told=AWAY)


def _tls(stage: ManyCells) -> None:
    stage.screen.step(f"The same over TLS on {TLS_PORT}, which needs a policy of its own")
    stage.expect_refused(TLS_PORT, told=f"the policy for {PORT} does not open it: refused")
    stage.allow(TLS_PORT, at=1)
    stage.run(stage.lab.cells[1], "sync")
    named = f"--resolve {ROUTE}:{TLS_PORT}:{stage.api.address} https://{ROUTE}:{TLS_PORT}/"
    done = stage.inside(stage.web, "sh", "-c", f"{TRUST} {named}")
    stage.expect_page(stage.web, done, told="verified by the cells' common root; " + AWAY)


def _scaled(stage: ManyCells) -> None:
    stage.screen.step("web is scaled to cell 3, where it never ran")
    caller = _another(stage, "web-2", cell=3)
    try:
        found = caller.ask("connect", stage.api, PORT)
    finally:
        caller.close()
    stage.screen.expect(
        found.outcome == "connected",
        told=f"its first packet passes, connected in {spoken(found.seconds)}: the app's tag is known before its instance",
        otherwise=f"its first connection: {found.outcome} after {spoken(found.seconds)}",
        hint="see 'cellnet policy check' on cell 2",
    )


def _another(stage: ManyCells, name: str, *, cell: int) -> Caller:
    """Start another web."""
    made = started(stage.screen, stage.lab.cells[cell - 1], WEB, *IDLE, name=name)
    stage.more.append(made)
    return Caller(made)


def _cut(stage: ManyCells) -> None:
    stage.screen.step("The policy is deleted while a connection lives")
    opened = stage.caller.ask("stream", stage.api, PORT)
    stage.screen.ran(f"cellnet exec web -- curl -N {stage.url}stream &", at="cell-1")
    if not stage.screen.expect(
        opened.outcome == "streaming", told="a slow download runs", otherwise=opened.outcome, hint="see api.log"
    ):
        return
    since = time.monotonic()
    stage.run(stage.lab.cells[2], "policy", "delete", WEB, API, f"tcp/{PORT}")
    ended = stage.caller.answer()
    stage.screen.expect(
        ended.outcome == "reset",
        told=f"web's connection was reset {spoken(ended.at - since)} after the command was typed",
        otherwise=f"the connection was not reset: {ended.outcome} after {spoken(ended.at - since)}",
        hint="see the log of cell 2 below",
    )
    stage.expect_refused(PORT, told="new connections are refused at once again")


def _without_etcd(stage: ManyCells) -> None:
    stage.screen.step("etcd dies")
    stage.allow(PORT, at=3)
    for cell in stage.lab.cells:
        stage.run(cell, "sync")
    assert stage.lab.segment is not None
    stage.lab.segment.etcd.kill()
    stage.screen.ran("cellnet lab etcd stop")
    stage.expect_page(stage.web, stage.call(stage.web), told="traffic goes on")
    _another(stage, "web-3", cell=3).close()
    stage.expect_page(stage.more[-1], stage.call(stage.more[-1]), told="a new container of a known app starts, and calls")


def _without_agent(stage: ManyCells) -> None:
    stage.screen.step("The agent of api's cell dies, too")
    killed = stage.lab.cells[1].kill(Part.AGENT)
    stage.screen.ran("cellnet lab kill 2")
    stage.screen.came(f"process {killed.pid} is dead")
    stage.expect_page(stage.web, stage.call(stage.web), told="traffic goes on")


def _healed(stage: ManyCells) -> None:
    stage.screen.step("Both come back")
    assert stage.lab.segment is not None
    since = time.monotonic()
    stage.lab.segment.etcd.start()
    stage.screen.ran("cellnet lab etcd start", seconds=time.monotonic() - since)
    since = time.monotonic()
    stage.lab.cells[1].start()
    stage.lab.wait_well()
    stage.screen.ran("cellnet lab start 2", seconds=time.monotonic() - since)
    good = stage.run(stage.lab.cells[1], "status")
    stage.screen.expect(good, told="all cells are well", otherwise="something is wrong", hint="see the problems above")
    stage.expect_page(stage.web, stage.call(stage.web), told="and traffic goes on")
