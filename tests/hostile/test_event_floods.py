"""Root in a container that begins flows without end while events are followed: others' events arrive all the same."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import NamedTuple

from scapy.layers.inet import IP, TCP

from tests.testlib.attacks.attacked_cell import AttackedCell
from tests.testlib.attacks.attacker import withstood
from tests.testlib.event_stream import EventStream
from tests.testlib.patience import PATIENCE, eventually

FLOWS = 45_000
LAST = 0xFFFF
MALLORY = "evil/shop/mallory"
POLICY = f"policies: [{{from: {MALLORY}, to: acme/shop/api, tcp: 8080}}]\n"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still for as long as the block lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Flood(NamedTuple):
    """`begun`: so many calls were made that they find no room; `over`: all were made."""

    begun: Event
    over: Event


@contextmanager
def flooding(stage: AttackedCell) -> Iterator[Flood]:
    """Calls that a policy allows, one after the other, for as long as the block lasts."""
    end, found = Event(), Flood(Event(), Event())
    wire, source, to = stage.wire, str(stage.mallory.address), str(stage.api.address)
    frame = bytes(wire.framed(IP(src=source, dst=to) / TCP(sport=0, dport=8080, flags="S", seq=LAST)))
    place = frame.rindex(bytes(2) + (8080).to_bytes(2, "big"))
    before, between, after = frame[:place], frame[place + 2 : place + 6], frame[place + 8 :]

    def flood() -> None:
        for number in range(FLOWS):
            if end.is_set():
                return
            port = 1_024 + number  # what is added to one half of the sum is taken from the other: it stays right
            words = port.to_bytes(2, "big"), (LAST - port).to_bytes(2, "big")
            wire.send_as_they_are([before + words[0] + between + words[1] + after])
            if number == FLOWS // 3:
                found.begun.set()
        found.over.set()

    thread = Thread(target=flood)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()


def is_told(stage: AttackedCell, told: EventStream) -> bool:
    """Whether one of web's calls is: what was lost before the flood was known is lost."""
    stage.web.dial(stage.api, 8080).close()
    time.sleep(0.1)
    return bool(told.of("new", **{"from": "acme/shop/web"}, port=8080))


def test_a_flood_of_new_flows_is_told_in_part_and_hides_nobody_elses(stage: AttackedCell) -> None:
    stage.cell.policy_file("more.yaml", POLICY)
    stage.extra.append(lambda: stage.cell.remove_policy_file("more.yaml"))
    with EventStream(stage.cell.client.path, "?kind=new,ended") as told, flooding(stage) as flood:
        with stopped(stage.cell.agent_pid):  # as if more came than it takes in
            assert flood.begun.wait(PATIENCE)
        eventually(lambda: [each for each in told.of("lost") if MALLORY in each["why"]])
        before = len(told.of("new", **{"from": MALLORY}))
        eventually(lambda: is_told(stage, told))
        assert flood.over.wait(PATIENCE)
        found = len(told.of("new", **{"from": MALLORY})) - before
        withstood(it=found < FLOWS // 6, what=f"{found} of mallory's flows were told, though there was no room")
