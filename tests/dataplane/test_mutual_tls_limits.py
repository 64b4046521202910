"""One address gets only so many tunnels to one container at a time, and so many new ones a second; all others get theirs.

web and other are on the first cell, api and db on the second; web and db may call api, web db too.
"""

import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dataplane.firewall.backends import Backend, firewall
from dataplane.firewall.flow_limits import OverLimit, over_limit
from dataplane.firewall.rights import MOST_TUNNELS
from dataplane.state import INBOUND_PORT
from host.namespace import run_in
from tests.testlib.hosts import allow
from tests.testlib.modes import MODES
from tests.testlib.netns import Netns
from tests.testlib.node import PATIENCE, Connected, Node, Outcome, Refused, connect_at_once, outcome_of
from tests.testlib.oracle import Mode
from tests.testlib.patience import eventually
from tests.testlib.two_hosts import DB, WEB, TwoHosts, two_hosts

BURST = 2_000  # new tunnels of one source at once


@pytest.fixture(params=Backend, ids=lambda each: each.value)
def cells(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    with two_hosts(netns, firewalls=[firewall(request.param) for _ in range(2)]) as made:
        api, db = made.workloads(made.there, allow(WEB, "8080"), allow(DB, "8080"))
        state = made.there.with_workloads(api, replace(db, allows=frozenset({allow(WEB, "8080")})))
        made.there.turn(replace(state, mutual_tls=MODES[Mode.STRICT]))
        yield made


def limited(cells: TwoHosts) -> OverLimit:
    return run_in(cells.there.netns.path, over_limit)


def serve(node: Node) -> None:
    """Every call is answered, and none is taken."""
    node.listen(INBOUND_PORT).listen(4096)


def call_and_reset(client: Node, server: Node) -> Outcome:
    """A connection of which nothing is left."""
    with run_in(client.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as made:
        made.settimeout(PATIENCE)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return outcome_of(lambda: made.connect((str(server.address), INBOUND_PORT)))


def test_more_tunnels_of_one_address_than_a_container_takes_are_refused_and_reported(cells: TwoHosts) -> None:
    for each in (cells.api, cells.db):
        serve(each)
    held = [cells.web.dial(cells.api, INBOUND_PORT) for _ in range(MOST_TUNNELS)]
    assert limited(cells) == OverLimit()
    assert [connect_at_once(cells.web, cells.api, INBOUND_PORT) for _ in range(3)] == [Refused] * 3
    assert limited(cells) == OverLimit(tunnels=frozenset({cells.web.address}))
    assert connect_at_once(cells.db, cells.api, INBOUND_PORT) is Connected, "another source"
    assert connect_at_once(cells.web, cells.db, INBOUND_PORT) is Connected, "another container"
    held[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    held[0].close()
    eventually(lambda: call_and_reset(cells.web, cells.api) is Connected)


def test_more_new_tunnels_of_one_address_than_a_cell_takes_are_refused_and_reported(cells: TwoHosts) -> None:
    for each in (cells.api, cells.db):
        serve(each)
    targets = itertools.islice(itertools.cycle((cells.api, cells.db)), 50_000)
    calls = itertools.takewhile(lambda each: call_and_reset(cells.web, each) is Connected, targets)
    assert BURST <= sum(1 for _ in calls) < 50_000
    assert limited(cells) == OverLimit(tunnels=frozenset({cells.web.address}))
    assert call_and_reset(cells.db, cells.api) is Connected
    eventually(lambda: call_and_reset(cells.web, cells.api) is Connected)
