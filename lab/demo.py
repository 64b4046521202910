"""The demo: the main job on the real kernel, from "connection refused" to "200 OK" to a live connection that is cut.

Every step runs what a user would run, shows what came back and judges it; an unexpected answer does not end the demo.
"""

import time
from dataclasses import dataclass

from agent.errors import RAISED
from lab.calls import Caller
from lab.cell import Cell
from lab.screen import Screen, spoken
from lab.stage import API, CURL, PAGE, PORT, ROUTE, TLS_PORT, TRUST, WEB, Stage, play, started

POLICY = """\
policies:
  - name: {name}
    from: acme/shop/web
    to: acme/shop/api
    tcp: [{port}]
"""


@dataclass(frozen=True, slots=True)
class OneCell(Stage):
    """The cell that all of them are on."""

    cell: Cell


def run_demo(cell: Cell) -> int:
    """Run all steps in `cell`, whose folder is there and empty; returns the exit code, 0 if every answer was as expected."""
    screen = Screen()
    screen.say("cellnet demo: one cell in a network namespace of its own; this machine's network takes no part.")
    screen.say(f"Its paths are those of any host, below {cell.root}. The times are those of the commands beside them.")
    try:
        play(_set_up(cell, screen), (_environment, _refused, _allowed, _tls, _identity, _cut, _status))
    except RAISED as error:
        screen.expect(False, told="", otherwise=error.what, hint=error.hint)
    if screen.wrong:
        screen.say(f"\nThe end of the cell's log:\n{cell.last_words()}")
    screen.end()
    return 1 if screen.wrong else 0


def _set_up(cell: Cell, screen: Screen) -> OneCell:
    screen.step("Start the agent and Envoy")
    since = time.monotonic()
    cell.make()
    cell.start()
    found = cell.wait_well()
    screen.ran("cellnet up &", seconds=time.monotonic() - since)
    screen.expect(
        True, told=f"all is well, containers get addresses of {found.at('cell').text('subnet')}", otherwise="", hint=""
    )

    screen.step("Start two apps, each in a network namespace of its own")
    options = ("--port", str(PORT), "--route", ROUTE)
    api = started(screen, cell, API, "python3", str(PAGE), str(PORT), options=options)
    web = started(screen, cell, WEB, "sleep", "infinity")
    listed = cell.cellnet("ps")
    screen.ran("cellnet ps", seconds=listed.seconds)
    screen.came(listed.out + listed.err)
    screen.expect(
        listed.code == 0 and str(api.address) in listed.out and str(web.address) in listed.out,
        told="both are on the overlay", otherwise="an app is missing", hint="see the log below",
    )  # fmt: skip
    return OneCell(screen, api, web, Caller(web), cell)


def _environment(stage: OneCell) -> None:
    stage.screen.step("An app knows its address")
    done = stage.api.exec("env")
    stage.screen.ran("cellnet exec api -- env | grep CF_INSTANCE_INTERNAL_IP", seconds=done.seconds)
    lines = [line for line in done.out.splitlines() if "CF_INSTANCE_INTERNAL_IP" in line]
    stage.screen.came("\n".join(lines) or done.err)
    expected = f"CF_INSTANCE_INTERNAL_IP={stage.api.address}"
    stage.screen.expect(lines == [expected], told="as in 'cellnet ps'", otherwise=f"not {expected}", hint="see 'cellnet ps'")


def _refused(stage: OneCell) -> None:
    stage.screen.step("web calls api, and no policy allows it")
    stage.inside(stage.web, *CURL, stage.url)
    stage.expect_refused(PORT, told="refused at once")


def _allowed(stage: OneCell) -> None:
    stage.screen.step("A policy file is dropped in")
    _drop_in(stage, "shop.yaml", POLICY.format(name="web-to-api", port=PORT), polled=True)
    synced = stage.cell.cellnet("sync")
    stage.screen.ran("cellnet sync", seconds=synced.seconds)
    stage.screen.expect(synced.code == 0, told="enforced", otherwise=synced.err, hint="see 'cellnet status'")
    stage.expect_page(stage.web, stage.call(stage.web))


def _drop_in(stage: OneCell, file: str, text: str, *, polled: bool) -> None:
    """Write a policy file under a temporary name and rename it; if `polled`, measure until web is answered."""
    new = stage.cell.policies / f".{file}.new"
    new.write_text(text)
    if polled:
        stage.caller.tell("poll", stage.api, PORT)
        time.sleep(0.05)  # it is being refused while the file appears
    since = time.monotonic()
    new.rename(stage.cell.policies / file)
    stage.screen.ran(f"cat .{file}.new")
    stage.screen.came(text)
    stage.screen.ran(f"mv .{file}.new /etc/cellnet/policies.d/{file}")
    if polled:
        found = stage.caller.answer()
        stage.screen.expect(
            found.outcome == "200",
            told=f"web got 200 OK {spoken(found.at - since)} after the file was renamed into place",
            otherwise=f"web was not answered: {found.outcome}",
            hint="see the policies in 'cellnet status'",
        )


def _tls(stage: OneCell) -> None:
    stage.screen.step(f"The same over TLS on {TLS_PORT}, which needs a policy of its own")
    stage.expect_refused(TLS_PORT, told=f"the policy for {PORT} does not open it: refused")
    _drop_in(stage, "shop-tls.yaml", POLICY.format(name="web-to-api-tls", port=TLS_PORT), polled=False)
    synced = stage.cell.cellnet("sync")
    stage.screen.ran("cellnet sync", seconds=synced.seconds)
    stage.expect_page(stage.web, stage.inside(stage.web, "sh", "-c", f"{TRUST} https://{stage.api.address}:{TLS_PORT}/"))
    named = f"--resolve {ROUTE}:{TLS_PORT}:{stage.api.address} https://{ROUTE}:{TLS_PORT}/"
    stage.expect_page(stage.web, stage.inside(stage.web, "sh", "-c", f"{TRUST} {named}"))


def _identity(stage: OneCell) -> None:
    stage.screen.step("Who answered? The certificate says it")
    there = f"{stage.api.address}:{TLS_PORT}"
    look = f'openssl s_client -connect {there} -CAfile "$CF_SYSTEM_CERT_PATH" -verify_return_error </dev/null 2>/dev/null'
    done = stage.inside(stage.web, "sh", "-c", f"{look} | openssl x509 -noout -ext subjectAltName")
    identity = f"spiffe://cell.internal/org/{API.replace('/', '/space/', 1).replace('/shop/', '/shop/app/')}"
    stage.screen.expect(
        identity in done.out and str(stage.api.address) in done.out and ROUTE in done.out,
        told=f"verified: {identity}", otherwise=f"the certificate does not say {identity}", hint="see 'cellnet ca show'",
    )  # fmt: skip


def _cut(stage: OneCell) -> None:
    stage.screen.step("The policy is removed while a connection lives")
    opened = stage.caller.ask("stream", stage.api, PORT)
    stage.screen.ran(f"cellnet exec web -- curl -N {stage.url}stream &")
    if not stage.screen.expect(
        opened.outcome == "streaming", told="a slow download runs", otherwise=opened.outcome, hint="see api.log"
    ):
        return
    since = time.monotonic()
    (stage.cell.policies / "shop.yaml").unlink()
    stage.screen.ran("rm /etc/cellnet/policies.d/shop.yaml")
    ended = stage.caller.answer()
    stage.screen.expect(
        ended.outcome == "reset",
        told=f"web's connection was reset {spoken(ended.at - since)} after the file was removed "
        "(50 ms of it to be sure that no editor is about to put it back)",
        otherwise=f"the connection was not reset: {ended.outcome} after {spoken(ended.at - since)}",
        hint="see the log below",
    )
    stage.inside(stage.web, *CURL, stage.url)
    stage.expect_refused(PORT, told="new connections are refused at once again")


def _status(stage: OneCell) -> None:
    stage.screen.step("All on one screen")
    done = stage.cell.cellnet("status")
    stage.screen.ran("cellnet status", seconds=done.seconds)
    stage.screen.came(done.out + done.err)
    stage.screen.expect(done.code == 0, told="all is well", otherwise="something is wrong", hint="see the problems above")
