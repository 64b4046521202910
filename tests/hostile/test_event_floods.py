"""Root in a container that begins flows without end while events are followed: others' events arrive all the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from scapy.layers.inet import IP, TCP

from tests.testlib.attacked_cell import AttackedCell
from tests.testlib.attacker import withstood
from tests.testlib.event_stream import EventStream
from tests.testlib.patience import PATIENCE, eventually

FLOWS = 60_000
LAST = 0xFFFF
MALLORY = "evil/shop/mallory"
POLICY = f"policies: [{{from: {MALLORY}, to: acme/shop/api, tcp: 8080}}]\n"


@contextmanager
def flooding(stage: AttackedCell) -> Iterator[Event]:
    """Calls that a policy allows, one after the other, for as long as the block lasts; set once many have begun."""
    end, begun = Event(), Event()
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
                begun.set()

    thread = Thread(target=flood)
    thread.start()
    try:
        yield begun
    finally:
        end.set()
        thread.join()


def test_a_flood_of_new_flows_is_told_in_part_and_hides_nobody_elses(stage: AttackedCell) -> None:
    stage.cell.policy_file("more.yaml", POLICY)
    stage.extra.append(lambda: stage.cell.remove_policy_file("more.yaml"))
    with EventStream(stage.cell.client.path, "?kind=new,ended") as told, flooding(stage) as begun:
        assert begun.wait(PATIENCE)
        stage.web.dial(stage.api, 8080)
        eventually(lambda: told.of("new", **{"from": "acme/shop/web"}, port=8080))
        found = len(told.of("new", **{"from": MALLORY}))
        withstood(it=found < FLOWS // 3, what=f"{found} of mallory's flows were told before")
        assert [each for each in told.of("lost") if MALLORY in each["why"]]
