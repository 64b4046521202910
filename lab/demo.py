"""The demo: the main job on the real kernel, from "connection refused" to "200 OK" to a live connection that is cut.

Every step runs what a user would run, shows what came back and judges it; an unexpected answer does not end the demo.
"""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

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
POLICY = """\
policies:
  - name: {name}
    from: acme/shop/web
    to: acme/shop/api
    tcp: [{port}]
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Who takes part. `caller` measures inside web."""

    cell: Cell
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
        self.screen.ran(f"cellnet exec {app.name} -- {shlex.join(argv)}", seconds=done.seconds)
        self.screen.came(done.out + done.err)
        return done


def run_demo(cell: Cell) -> int:
    """Run all steps in `cell`, whose folder is there and empty; returns the exit code, 0 if every answer was as expected."""
    screen = Screen()
    screen.say("cellnet demo: one cell in a network namespace of its own; this machine's network takes no part.")
    screen.say(f"Its paths are those of any host, below {cell.root}. The times are those of the commands beside them.")
    try:
        _play(_set_up(cell, screen))
    except RAISED as error:
        screen.expect(False, told="", otherwise=error.what, hint=error.hint)
    if screen.wrong:
        screen.say(f"\nThe end of the cell's log:\n{cell.last_words()}")
    screen.end()
    return 1 if screen.wrong else 0


def _play(stage: Stage) -> None:
    try:
        for step in (_environment, _refused, _allowed, _tls, _identity, _cut, _status):
            try:
                step(stage)
            except RAISED as error:
                stage.screen.expect(False, told="", otherwise=error.what, hint=error.hint)
    finally:
        stage.caller.close()


def _set_up(cell: Cell, screen: Screen) -> Stage:
    screen.step("Start the agent and Envoy")
    started = time.monotonic()
    cell.make()
    cell.start()
    found = cell.wait_well()
    screen.ran("cellnet up &", seconds=time.monotonic() - started)
    screen.expect(
        True, told=f"all is well, containers get addresses of {found.at('cell').text('subnet')}", otherwise="", hint=""
    )

    screen.step("Start two apps, each in a network namespace of its own")
    options = ("--port", str(PORT), "--route", ROUTE)
    api = _started(cell, screen, API, "python3", str(PAGE), str(PORT), options=options)
    web = _started(cell, screen, WEB, "sleep", "infinity")
    listed = cell.cellnet("ps")
    screen.ran("cellnet ps", seconds=listed.seconds)
    screen.came(listed.out + listed.err)
    screen.expect(
        listed.code == 0 and str(api.address) in listed.out and str(web.address) in listed.out,
        told="both are on the overlay", otherwise="an app is missing", hint="see the log below",
    )  # fmt: skip
    return Stage(cell, screen, api, web, Caller(web))


def _started(cell: Cell, screen: Screen, app: str, *command: str, options: tuple[str, ...] = ()) -> App:
    started = time.monotonic()
    name = app.rpartition("/")[2]
    made = run_app(cell, app, *command, name=name, options=options)
    shown = shlex.join([*options, "--", *(Path(word).name if word.endswith(".py") else word for word in command)])
    screen.ran(f"cellnet run --app {app} {shown} &", seconds=time.monotonic() - started)
    return made


def _environment(stage: Stage) -> None:
    stage.screen.step("An app knows its address")
    done = stage.api.exec("env")
    stage.screen.ran("cellnet exec api -- env | grep CF_INSTANCE_INTERNAL_IP", seconds=done.seconds)
    lines = [line for line in done.out.splitlines() if "CF_INSTANCE_INTERNAL_IP" in line]
    stage.screen.came("\n".join(lines) or done.err)
    expected = f"CF_INSTANCE_INTERNAL_IP={stage.api.address}"
    stage.screen.expect(lines == [expected], told="as in 'cellnet ps'", otherwise=f"not {expected}", hint="see 'cellnet ps'")


def _refused(stage: Stage) -> None:
    stage.screen.step("web calls api, and no policy allows it")
    stage.inside(stage.web, *CURL, stage.url)
    _expect_refused(stage, PORT, told="refused at once")


def _expect_refused(stage: Stage, port: int, *, told: str) -> None:
    found = stage.caller.ask("connect", stage.api, port)
    stage.screen.expect(
        found.outcome == "refused",
        told=f"{told}, in {spoken(found.seconds)}",
        otherwise=f"{found.outcome} after {spoken(found.seconds)}, not refused",
        hint="see the rules: iptables-save in the cell",
    )


def _allowed(stage: Stage) -> None:
    stage.screen.step("A policy file is dropped in")
    _drop_in(stage, "shop.yaml", POLICY.format(name="web-to-api", port=PORT), polled=True)
    synced = stage.cell.cellnet("sync")
    stage.screen.ran("cellnet sync", seconds=synced.seconds)
    stage.screen.expect(synced.code == 0, told="enforced", otherwise=synced.err, hint="see 'cellnet status'")
    done = stage.inside(stage.web, *CURL, "-w", "HTTP %{http_code}", stage.url)
    _expect_page(stage, done)


def _drop_in(stage: Stage, file: str, text: str, *, polled: bool) -> None:
    """Write a policy file under a temporary name and rename it; if `polled`, measure until web is answered."""
    new = stage.cell.policies / f".{file}.new"
    new.write_text(text)
    if polled:
        stage.caller.tell("poll", stage.api, PORT)
        time.sleep(0.05)  # it is being refused while the file appears
    started = time.monotonic()
    new.rename(stage.cell.policies / file)
    stage.screen.ran(f"cat .{file}.new")
    stage.screen.came(text)
    stage.screen.ran(f"mv .{file}.new /etc/cellnet/policies.d/{file}")
    if polled:
        found = stage.caller.answer()
        stage.screen.expect(
            found.outcome == "200",
            told=f"web got 200 OK {spoken(found.at - started)} after the file was renamed into place",
            otherwise=f"web was not answered: {found.outcome}",
            hint="see the policies in 'cellnet status'",
        )


def _expect_page(stage: Stage, done: Finished) -> None:
    stage.screen.expect(
        done.code == 0 and "HTTP 200" in done.out and f"to {stage.web.address}" in done.out,
        told="200 OK, and api sees web's own address",
        otherwise=f"exit code {done.code} and no page for {stage.web.address}",
        hint="see the policies in 'cellnet status'",
    )


def _tls(stage: Stage) -> None:
    stage.screen.step(f"The same over TLS on {TLS_PORT}, which needs a policy of its own")
    _expect_refused(stage, TLS_PORT, told=f"the policy for {PORT} does not open it: refused")
    _drop_in(stage, "shop-tls.yaml", POLICY.format(name="web-to-api-tls", port=TLS_PORT), polled=False)
    synced = stage.cell.cellnet("sync")
    stage.screen.ran("cellnet sync", seconds=synced.seconds)
    trust = f'{shlex.join(CURL)} -w "HTTP %{{http_code}}" --cacert "$CF_SYSTEM_CERT_PATH"'
    _expect_page(stage, stage.inside(stage.web, "sh", "-c", f"{trust} https://{stage.api.address}:{TLS_PORT}/"))
    named = f"--resolve {ROUTE}:{TLS_PORT}:{stage.api.address} https://{ROUTE}:{TLS_PORT}/"
    _expect_page(stage, stage.inside(stage.web, "sh", "-c", f"{trust} {named}"))


def _identity(stage: Stage) -> None:
    stage.screen.step("Who answered? The certificate says it")
    there = f"{stage.api.address}:{TLS_PORT}"
    look = f'openssl s_client -connect {there} -CAfile "$CF_SYSTEM_CERT_PATH" -verify_return_error </dev/null 2>/dev/null'
    done = stage.inside(stage.web, "sh", "-c", f"{look} | openssl x509 -noout -ext subjectAltName")
    identity = f"spiffe://cell.internal/org/{API.replace('/', '/space/', 1).replace('/shop/', '/shop/app/')}"
    stage.screen.expect(
        identity in done.out and str(stage.api.address) in done.out and ROUTE in done.out,
        told=f"verified: {identity}", otherwise=f"the certificate does not say {identity}", hint="see 'cellnet ca show'",
    )  # fmt: skip


def _cut(stage: Stage) -> None:
    stage.screen.step("The policy is removed while a connection lives")
    opened = stage.caller.ask("stream", stage.api, PORT)
    stage.screen.ran(f"cellnet exec web -- curl -N {stage.url}stream &")
    if not stage.screen.expect(
        opened.outcome == "streaming", told="a slow download runs", otherwise=opened.outcome, hint="see api.log"
    ):
        return
    started = time.monotonic()
    (stage.cell.policies / "shop.yaml").unlink()
    stage.screen.ran("rm /etc/cellnet/policies.d/shop.yaml")
    ended = stage.caller.answer()
    stage.screen.expect(
        ended.outcome == "reset",
        told=f"web's connection was reset {spoken(ended.at - started)} after the file was removed "
        "(50 ms of it to be sure that no editor is about to put it back)",
        otherwise=f"the connection was not reset: {ended.outcome} after {spoken(ended.at - started)}",
        hint="see the log below",
    )
    stage.inside(stage.web, *CURL, stage.url)
    _expect_refused(stage, PORT, told="new connections are refused at once again")


def _status(stage: Stage) -> None:
    stage.screen.step("All on one screen")
    done = stage.cell.cellnet("status")
    stage.screen.ran("cellnet status", seconds=done.seconds)
    stage.screen.came(done.out + done.err)
    stage.screen.expect(done.code == 0, told="all is well", otherwise="something is wrong", hint="see the problems above")
