"""Flows of one container to the outside: so many new ones a second, and so many open at once; the others go on."""

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from dataplane.firewall.backends.backends import Backend, firewall
from dataplane.firewall.limits import OVER_NEW, OVER_OPEN, as_kept
from dataplane.firewall.outside_matches import EVERYWHERE
from dataplane.sets.limit_hits import LimitHits, limit_hits
from dataplane.state import HostState, Limits, OutsideRight
from host.namespace import run_in
from tests.testlib.connections import is_alive
from tests.testlib.hosts import allow
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Outcome, Refused, Unreachable, connect_at_once, pair
from tests.testlib.outside import served
from tests.testlib.patience import eventually
from tests.testlib.two_hosts import WEB, TwoHosts, two_hosts

OUTSIDE, ELSEWHERE = "198.18.1.1", "198.18.1.2"
OUT = frozenset(OutsideRight(protocol, 80, 8080, EVERYWHERE) for protocol in ("tcp", "udp"))
FEW = 3
OPEN, NEW = Limits(connections=FEW), Limits(new=FEW)
LINGER = struct.pack("ii", 1, 0)


@pytest.fixture(params=Backend, ids=lambda each: each.value)
def cells(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    firewalls = [firewall(request.param) for _ in range(2)]
    with two_hosts(netns, firewalls=firewalls) as made, served(made.world(), tcp=[80], udp=[80]):
        yield made


def state(cells: TwoHosts, limits: Limits) -> HostState:
    """Web and other may both go out, web within these limits."""
    web, other = cells.workloads(cells.here)
    return cells.here.with_workloads(replace(web, egress=OUT, limits=limits), replace(other, egress=OUT))


def hits(cells: TwoHosts) -> LimitHits:
    """Web's; no other has any."""
    found = run_in(cells.here.netns.path, limit_hits)
    assert set(found) <= {cells.web.address}
    return found.get(cells.web.address, LimitHits())


def call_and_reset(client: Node, address: str, port: int = 80) -> Outcome:
    """A connection of which nothing is left."""
    with run_in(client.pin, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as made:
        made.settimeout(5.0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        try:
            made.connect((address, port))
        except ConnectionRefusedError:
            return Refused
        return Connected


def test_more_open_flows_than_its_limit_are_refused_at_once_and_counted_until_one_has_ended(cells: TwoHosts) -> None:
    cells.here.become(state(cells, OPEN))
    held = [cells.web.dial(address, 80) for address in (OUTSIDE, ELSEWHERE, OUTSIDE)]
    assert hits(cells) == LimitHits()
    assert [connect_at_once(cells.web, OUTSIDE, 80) for _ in range(2)] == [Refused] * 2
    assert cells.web.udp(OUTSIDE, 80) is Unreachable, "of all protocols together"
    assert hits(cells).connections >= FEW
    assert hits(cells)._replace(connections=0) == LimitHits()
    assert connect_at_once(cells.other, OUTSIDE, 80) is Connected
    held[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    held[0].close()
    eventually(lambda: call_and_reset(cells.web, OUTSIDE) is Connected)
    assert not cells.here.left_to_do(), str(cells.here.left_to_do())


def test_more_new_flows_in_a_second_than_its_limit_are_refused_at_once_and_counted(cells: TwoHosts) -> None:
    cells.here.become(state(cells, NEW))
    found = [call_and_reset(cells.web, OUTSIDE) for _ in range(200)]
    assert found[:FEW] == [Connected] * FEW
    assert Refused in found
    assert hits(cells) == LimitHits(new=found.count(Refused))
    assert call_and_reset(cells.other, OUTSIDE) is Connected
    eventually(lambda: call_and_reset(cells.web, OUTSIDE) is Connected)
    assert not cells.here.left_to_do(), str(cells.here.left_to_do())


@pytest.mark.parametrize("limits", [OPEN, NEW], ids=["open", "new"])
def test_calls_that_no_right_lets_out_and_calls_of_other_containers_are_not_counted(cells: TwoHosts, limits: Limits) -> None:
    cells.here.become(state(cells, limits))
    cells.permit(allow(WEB, "80"))
    server = cells.api.listen(80)
    calls = [connect_at_once(cells.web, cells.api, 80) for _ in range(4 * FEW)]
    calls += [call_and_reset(cells.web, OUTSIDE, 8081) for _ in range(4 * FEW)]
    assert calls == [Connected] * 4 * FEW + [Refused] * 4 * FEW
    assert call_and_reset(cells.web, OUTSIDE) is Connected
    assert hits(cells) == LimitHits()
    server.close()


def test_an_open_flow_goes_on_where_the_limit_is_reached(cells: TwoHosts) -> None:
    cells.here.become(state(cells, Limits(connections=1, new=1)))
    ends = pair(cells.web, Node(cells.world().pin, address=IPv4Address(ELSEWHERE)), 8080)
    assert connect_at_once(cells.web, OUTSIDE, 80) is Refused
    assert is_alive(*ends)


@pytest.mark.parametrize("name", [OVER_NEW, OVER_OPEN])
def test_what_another_program_takes_out_of_a_set_that_counts_is_put_back(cells: TwoHosts, name: str) -> None:
    cells.here.become(state(cells, Limits(connections=FEW, new=FEW)))
    cells.here.netns.run("ipset", "del", name, str(cells.web.address))
    assert list(cells.here.left_to_do().limited.change) == [name]
    cells.here.become(cells.here.state)
    assert not cells.here.left_to_do()


def test_a_limit_that_goes_from_one_container_to_another_is_read_back_at_once(cells: TwoHosts) -> None:
    cells.here.become(state(cells, OPEN))
    assert not cells.here.left_to_do()
    web, other = (replace(each, egress=OUT) for each in cells.workloads(cells.here))
    cells.here.turn(cells.here.with_workloads(web, replace(other, limits=OPEN)))
    assert not cells.here.left_to_do(), str(cells.here.left_to_do())


def test_the_last_limit_takes_the_sets_and_rules_along(cells: TwoHosts) -> None:
    cells.here.become(state(cells, Limits(connections=FEW, new=FEW)))
    cells.here.become(state(cells, Limits()))
    assert "cellnet-over" not in cells.here.netns.run("ipset", "list", "-n")
    assert not cells.here.left_to_do()


@pytest.mark.parametrize("rate", [1, 7, 60, 999, 1000, 1500, 3000, 10_000])
def test_a_rate_is_at_most_a_hundredth_from_what_was_asked_for_and_stays_as_it_is(rate: int) -> None:
    kept = as_kept(rate)
    assert as_kept(kept) == kept
    assert abs(kept - rate) <= rate / 100
