"""The part of the demo about mutual TLS: what apps say to each other is read between the cells, and then it is not."""

import re
import signal
import time

from agent.client.answer import Fields
from agent.errors import HostRefused, Unavailable
from lab.cell import POLL_SECONDS, READY_SECONDS, Cell, Part
from lab.demo.stage import CURL, Stage
from lab.demo.wire import Wire

WORDS = b"Hello from api"
MODES = ("accept", "strict")  # the way from none, so that no call is refused


def readable(stage: Stage) -> None:
    """Without mutual TLS."""
    stage.screen.step("Between the cells, anybody can read what they say")
    _listened_to(stage, is_plain=True)


def encrypted(stage: Stage) -> None:
    """With it."""
    stage.screen.step("Mutual TLS for every TCP connection, and the apps run on as they are")
    for mode in MODES:
        for cell in stage.lab.cells:
            _set_mode(stage, cell, mode)
        since = time.monotonic()
        for cell in stage.lab.cells:
            _await_mode(cell, mode)
        stage.screen.ran("cellnet status --wait 30", seconds=time.monotonic() - since)
        stage.screen.came(f"mutual TLS is '{mode}' on all cells")
    _listened_to(stage, is_plain=False)


def _set_mode(stage: Stage, cell: Cell, mode: str) -> None:
    """The agent alone is started again: containers, connections and Envoy go on."""
    file = cell.policies.parent / "agent.yaml"
    text, count = re.subn(r"(?m)^(\s+)mtls: \w+$", rf"\1mtls: {mode}", file.read_text())
    former = cell.part(Part.AGENT)
    if not count or former is None:
        raise HostRefused(f"cell {cell.number} cannot be told another mode", hint="see its agent.yaml")
    file.write_text(text)
    former.send(signal.SIGTERM)  # `cellnet up` starts another
    stage.screen.ran(f"sed -i 's/mtls: .*/mtls: {mode}/' /etc/cellnet/agent.yaml; kill {former.pid}", at=cell)


def _await_mode(cell: Cell, mode: str) -> None:
    until = time.monotonic() + READY_SECONDS
    while not _is_in_force(cell.wait_well().at("mutual_tls"), mode):
        if time.monotonic() > until:
            raise Unavailable(f"cell {cell.number} has not come to '{mode}'", hint="see its 'cellnet status'")
        time.sleep(POLL_SECONDS)


def _is_in_force(found: Fields, mode: str) -> bool:
    return found.text("mode") == mode and found.flag("in_force")


def _listened_to(stage: Stage, *, is_plain: bool) -> None:
    with Wire(stage.api.cell) as wire:
        done = stage.inside(stage.web, *CURL, "-w", "HTTP %{http_code}", stage.url)
    stage.judge_page(stage.web, done)
    found = wire.carrying(WORDS)
    stage.screen.ran(f"tcpdump -A -i eth0 | grep -c '{WORDS.decode()}'", at=stage.api.cell)
    stage.screen.came(str(found))
    stage.screen.expect(
        bool(found) is is_plain,
        message="the page was on the wire, word for word" if is_plain else f"nothing of it, in {len(wire.frames)} frames",
        otherwise=f"{found} frames had the page in plain text",
        hint="see 'mutual TLS' in 'cellnet status'",
    )
