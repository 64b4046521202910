"""One address gets only so many tunnels to one container at a time, and to all of a cell, and so many new ones a second; and so
many connections with TLS. All others get theirs.

web and other are on the first cell, api and db on the second; web and db may call api, web db too.
"""

import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dataplane.envoy.limits import CONNECTIONS, TUNNELS
from dataplane.envoy.process.overload import connections_for
from dataplane.firewall import filter as rules
from dataplane.firewall.backends.backends import Backend, firewall
from dataplane.firewall.flow_limits import OverLimit, over_limit
from dataplane.firewall.rights import MOST_TUNNELS
from dataplane.state import INBOUND_PORT
from host.namespace import run_in
from tests.testlib.hosts import allow
from tests.testlib.netns import Netns
from tests.testlib.node import PATIENCE, Connected, Node, Outcome, Refused, connect_at_once, outcome_of
from tests.testlib.oracle import Mode
from tests.testlib.patience import eventually
from tests.testlib.tunnels.modes import MODES
from tests.testlib.two_hosts import DB, WEB, TwoHosts, two_hosts

TLS_PORT = 61443
BURST = 2_000  # new tunnels of one source at once


MOST_HERE = MOST_TUNNELS + 100  # instead of some more containers
FILES, WORKERS = 20_000, 2  # of an Envoy on a small cell


@pytest.fixture(params=Backend, ids=lambda each: each.value)
def cells(netns: Callable[[str], Netns], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoHosts]:
    for name in ("MOST_TUNNELS_HERE", "MOST_TLS_HERE"):
        monkeypatch.setattr(rules, name, MOST_HERE)
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


def test_more_tunnels_of_one_address_than_a_cell_takes_are_refused_and_reported(cells: TwoHosts) -> None:
    """Each of them costs Envoy memory and a file, and its caller nothing; and a policy may lead to all containers of a cell."""
    for each in (cells.api, cells.db):
        serve(each)
    held = [cells.web.dial(cells.api, INBOUND_PORT) for _ in range(MOST_TUNNELS)]
    held += [cells.web.dial(cells.db, INBOUND_PORT) for _ in range(MOST_HERE - MOST_TUNNELS)]
    assert limited(cells) == OverLimit()
    assert [connect_at_once(cells.web, cells.db, INBOUND_PORT) for _ in range(3)] == [Refused] * 3
    assert limited(cells) == OverLimit(tunnels=frozenset({cells.web.address}))
    assert connect_at_once(cells.db, cells.api, INBOUND_PORT) is Connected, "another source"
    del held


@pytest.mark.parametrize("mode", [Mode.NONE, Mode.STRICT])
def test_more_connections_with_tls_of_one_address_than_a_cell_takes_are_refused_and_reported(
    cells: TwoHosts, mode: Mode
) -> None:
    rights = allow(WEB, str(TLS_PORT)), allow(DB, str(TLS_PORT))
    workloads = [replace(each, allows=frozenset(rights)) for each in cells.there.state.workloads.values()]
    cells.there.turn(replace(cells.there.with_workloads(*workloads), mutual_tls=MODES[mode]))
    for each in (cells.api, cells.db):
        each.listen(TLS_PORT).listen(4096)
    targets = itertools.islice(itertools.cycle((cells.api, cells.db)), MOST_HERE)
    held = [cells.web.dial(each, TLS_PORT) for each in targets]
    assert limited(cells) == OverLimit()
    assert [connect_at_once(cells.web, each, TLS_PORT) for each in (cells.api, cells.db)] == [Refused] * 2
    assert limited(cells) == OverLimit(tls=frozenset({cells.web.address}))
    assert connect_at_once(cells.db, cells.api, TLS_PORT) is Connected, "another source"
    del held


def test_what_one_container_may_have_of_a_small_envoy_leaves_room_for_the_others() -> None:
    """Calls of its own, and tunnels and connections of its root's own making."""
    own = CONNECTIONS + rules.MOST_TUNNELS_HERE + rules.MOST_TLS_HERE
    assert own <= 0.9 * connections_for(FILES, workers=WORKERS)
    assert rules.MOST_TUNNELS_HERE >= TUNNELS + 253, "an Envoy's own, and one to each container that it has none to"


def test_more_new_tunnels_of_one_address_than_a_cell_takes_are_refused_and_reported(cells: TwoHosts) -> None:
    for each in (cells.api, cells.db):
        serve(each)
    targets = itertools.islice(itertools.cycle((cells.api, cells.db)), 50_000)
    calls = itertools.takewhile(lambda each: call_and_reset(cells.web, each) is Connected, targets)
    assert BURST <= sum(1 for _ in calls) < 50_000
    assert limited(cells) == OverLimit(tunnels=frozenset({cells.web.address}))
    assert call_and_reset(cells.db, cells.api) is Connected
    eventually(lambda: call_and_reset(cells.web, cells.api) is Connected)
