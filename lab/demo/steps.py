"""The demo: from "connection refused" to "200 OK" to a live connection that is cut, on one cell or across several.

Every step runs what a user would run, shows what came back and judges it; an unexpected answer does not end the demo. On one
cell policies are files. With three cells they are stored from a cell where neither app runs, and the demo goes on: policies
hold while etcd and an agent are dead.
"""

import time
from collections.abc import Callable, Sequence

from agent.errors import RAISED
from lab.apps import App
from lab.cell import Part
from lab.cells import Lab
from lab.demo.caller import Caller
from lab.demo.encryption import encrypted, readable
from lab.demo.policies import API, WEB
from lab.demo.screen import Screen, duration
from lab.demo.stage import CURL, IDLE, PORT, ROUTE, TLS_PORT, TRUST, Stage, set_stage


def run_demo(lab: Lab) -> int:
    """Run all steps in a lab whose folders may be made; returns the exit code, 0 if every answer was as expected."""
    screen = Screen()
    one = lab.segment is None
    where = "one cell" if one else f"{len(lab.cells)} cells on one switch, with one etcd, each"
    screen.say(f"cellnet demo: {where} in a network namespace of its own; this machine's network takes no part.")
    screen.say("The times are those of the commands beside them.")
    for cell in lab.cells:
        screen.say(f"The paths of cell {cell.number} are those of any host, below {cell.root}")
    try:
        _play(set_stage(lab, screen), ONE_CELL if one else SEVERAL_CELLS)
    except RAISED as error:
        screen.unexpected(error.what, hint=error.hint)
    if screen.wrong:
        for cell in lab.cells:
            screen.say(f"\nThe end of the log of cell {cell.number}:\n{cell.last_words()}")
    screen.end()
    return 1 if screen.wrong else 0


def _play(stage: Stage, steps: "Sequence[Step]") -> None:
    """Every step, also after one that came to nothing; then the caller goes."""
    try:
        for step in steps:
            try:
                step(stage)
            except RAISED as error:
                stage.screen.unexpected(error.what, hint=error.hint)
    finally:
        stage.caller.close()


def _environment(stage: Stage) -> None:
    stage.screen.step("An app knows its address")
    done = stage.api.exec("env")
    stage.screen.ran("cellnet exec api -- env | grep CF_INSTANCE_INTERNAL_IP", seconds=done.seconds)
    lines = [line for line in done.out.splitlines() if "CF_INSTANCE_INTERNAL_IP" in line]
    stage.screen.came("\n".join(lines) or done.err)
    expected = f"CF_INSTANCE_INTERNAL_IP={stage.api.address}"
    stage.screen.expect(lines == [expected], message="as in 'cellnet ps'", otherwise=f"not {expected}", hint="see 'cellnet ps'")


def _refused(stage: Stage) -> None:
    stage.screen.step("web calls api, and no policy allows it")
    stage.inside(stage.web, *CURL, stage.url)
    stage.expect_refused(PORT, message="refused at once by api's cell")


def _allowed(stage: Stage) -> None:
    stage.screen.step(stage.policies.given)
    stage.caller.begin("poll", stage.api, PORT)
    time.sleep(0.05)  # it is being refused while the policy comes
    since = stage.policies.allow(PORT)
    found = stage.caller.answer()
    stage.screen.expect(
        found.outcome == "200",
        message=f"web got 200 OK {duration(found.at - since)} {stage.policies.when_given}",
        otherwise=f"web was not answered: {found.outcome}",
        hint="see 'cellnet policy list' on each cell",
    )
    stage.screen.cellnet(stage.api.cell, "policy", "list")
    stage.expect_page(stage.web)


def _named(stage: Stage) -> None:
    stage.screen.step("web needs no address: in its own space it finds api by name, everywhere by the route")
    for name in ("api", ROUTE):
        stage.expect_page(stage.web, url=f"http://{name}:{PORT}/")


def _tls(stage: Stage) -> None:
    stage.screen.step(f"The same over TLS on {TLS_PORT}, which needs a policy of its own")
    stage.expect_refused(TLS_PORT, message=f"the policy for {PORT} does not open it: refused")
    stage.policies.allow(TLS_PORT)
    stage.screen.cellnet(stage.api.cell, "sync")
    for target in (f"https://{stage.api.address}:{TLS_PORT}/", f"https://{ROUTE}:{TLS_PORT}/"):
        stage.judge_page(stage.web, stage.inside(stage.web, "sh", "-c", f"{TRUST} {target}"))


def _identity(stage: Stage) -> None:
    stage.screen.step("Who answered? The certificate names the app")
    there = f"{stage.api.address}:{TLS_PORT}"
    look = f'openssl s_client -connect {there} -CAfile "$CF_INSTANCE_CA" -verify_return_error </dev/null 2>/dev/null'
    done = stage.inside(stage.web, "sh", "-c", f"{look} | openssl x509 -noout -ext subjectAltName")
    identity = f"spiffe://cell.internal/org/{API.replace('/', '/space/', 1).replace('/shop/', '/shop/app/')}"
    stage.screen.expect(
        identity in done.out and str(stage.api.address) in done.out and ROUTE in done.out,
        message=f"verified: {identity}", otherwise=f"the certificate does not name {identity}", hint="see 'cellnet ca show'",
    )  # fmt: skip


def _scaled(stage: Stage) -> None:
    stage.screen.step(f"web is scaled to cell {stage.lab.cells[-1].number}, where it never ran")
    caller = Caller(_another_web(stage, "web-2"))
    try:
        found = caller.ask("connect", stage.api, PORT)
    finally:
        caller.close()
    stage.screen.expect(
        found.outcome == "connected",
        message=f"its first packet passes, connected in {duration(found.seconds)}: the app's tag is known before its instance",
        otherwise=f"its first connection: {found.outcome} after {duration(found.seconds)}",
        hint="see 'cellnet policy check' on api's cell",
    )


def _another_web(stage: Stage, name: str) -> App:
    return stage.start_app(stage.lab.cells[-1], WEB, *IDLE, name=name)


def _cut(stage: Stage) -> None:
    stage.screen.step(stage.policies.taken)
    opened = stage.caller.ask("stream", stage.api, PORT)
    stage.screen.ran(f"cellnet exec web -- curl -N {stage.url}stream &", at=stage.web.cell)
    if not stage.screen.expect(
        opened.outcome == "streaming", message="a slow download runs", otherwise=opened.outcome, hint="see api.log"
    ):
        return
    since = stage.policies.revoke(PORT)
    ended = stage.caller.answer()
    stage.screen.expect(
        ended.outcome == "reset",
        message=f"web's connection was reset {duration(ended.at - since)} {stage.policies.when_taken}",
        otherwise=f"the connection was not reset: {ended.outcome} after {duration(ended.at - since)}",
        hint="see the log of api's cell below",
    )
    stage.inside(stage.web, *CURL, stage.url)
    stage.expect_refused(PORT, message="new connections are refused at once again")


def _status(stage: Stage) -> None:
    stage.screen.step("All on one screen")
    stage.screen.cellnet(stage.api.cell, "status", message="all is well")


def _without_etcd(stage: Stage) -> None:
    stage.screen.step("etcd dies")
    stage.policies.allow(PORT)
    for cell in stage.lab.cells:
        stage.screen.cellnet(cell, "sync")
    assert stage.lab.segment is not None
    stage.lab.segment.etcd.kill()
    stage.screen.ran("cellnet lab etcd stop")
    stage.expect_page(stage.web, message="traffic goes on")
    stage.expect_page(_another_web(stage, "web-3"), message="a new container of a known app starts, and calls")


def _without_agent(stage: Stage) -> None:
    stage.screen.step("The agent of api's cell dies, too")
    killed = stage.api.cell.kill(Part.AGENT)
    stage.screen.ran(f"cellnet lab kill {stage.api.cell.number}")
    stage.screen.came(f"process {killed.pid} is dead")
    stage.expect_page(stage.web, message="traffic goes on")


def _healed(stage: Stage) -> None:
    stage.screen.step("Both come back")
    assert stage.lab.segment is not None
    since = time.monotonic()
    stage.lab.segment.etcd.start()
    stage.screen.ran("cellnet lab etcd start", seconds=time.monotonic() - since)
    since = time.monotonic()
    stage.api.cell.start()
    stage.lab.wait_well()
    stage.screen.ran(f"cellnet lab start {stage.api.cell.number}", seconds=time.monotonic() - since)
    stage.screen.cellnet(stage.api.cell, "status", message="all cells are well")
    stage.expect_page(stage.web, message="and traffic goes on")


Step = Callable[[Stage], None]
ONE_CELL: Sequence[Step] = (_environment, _refused, _allowed, _named, _tls, _identity, _cut, _status)
SEVERAL_CELLS: Sequence[Step] = (
    _refused, _allowed, _named, _tls, _scaled, _cut, _without_etcd, _without_agent, _healed, readable, encrypted,
)  # fmt: skip
