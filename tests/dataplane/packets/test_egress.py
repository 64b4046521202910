"""Out of the overlay by rights: to these networks, protocols and ports alone, whatever else is allowed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from dataplane.apply import Outcome
from dataplane.firewall.backends.driver import Firewall
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.firewall.outside_matches import EVERYWHERE, FEW
from dataplane.sets.outside import BELIEVED, OutsideSets
from dataplane.state import HostState, OutsideRight
from dataplane.tables import OUTSIDE_SETS
from host.namespace import run_in
from tests.testlib.hosts import WORLD
from tests.testlib.netns import Netns
from tests.testlib.node import Node, Refused
from tests.testlib.oracle import Mode
from tests.testlib.outside import passes, served
from tests.testlib.tunnels.modes import MODES
from tests.testlib.two_hosts import TwoHosts, two_hosts

FIREWALLS: dict[str, Callable[[], Firewall]] = {"nft": NftFirewall, "legacy": LegacyFirewall}
SERVED = (80, 443)


def nets(*texts: str) -> tuple[IPv4Network, ...]:
    return tuple(sorted(map(IPv4Network, texts)))


def right(protocol: str, ports: str, networks: tuple[IPv4Network, ...]) -> OutsideRight:
    first, _, last = ports.partition("-")
    return OutsideRight(protocol, int(first), int(last or first), networks)


TWO = nets("198.18.1.0/24", "198.18.9.9/32")
MANY = nets("198.18.1.0/25", "198.18.1.192/26", "198.18.2.0/23", "198.18.4.1/32", "198.18.8.0/22", "198.19.128.0/17")
assert len(TWO) <= FEW < len(MANY)
EDGES = ("198.18.1.0", "198.18.1.127", "198.18.1.128", "198.18.1.191", "198.18.1.192", "198.18.1.255", "198.18.2.0",
         "198.18.3.255", "198.18.4.0", "198.18.4.1", "198.18.4.2", "198.18.9.8", "198.18.9.9", "198.18.11.255", "198.18.12.0",
         "198.19.127.255", "198.19.128.0", "198.19.255.255", str(WORLD))  # fmt: skip
FEW_EDGES = ("198.18.1.0", "198.18.4.0", "198.18.9.9", "198.19.128.0")


@pytest.fixture(params=FIREWALLS)
def cells(netns: Callable[[str], Netns], request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    with two_hosts(netns, firewalls=[FIREWALLS[request.param]() for _ in range(2)]) as made:
        yield made


@pytest.fixture
def world(cells: TwoHosts) -> Iterator[Node]:
    made = cells.world()
    with served(made, tcp=SERVED, udp=SERVED):
        yield made


def state(cells: TwoHosts, *rights: OutsideRight, other: tuple[OutsideRight, ...] = ()) -> HostState:
    """Web may go out by these, other by those; what they share is one object, as the agent has it."""
    web, beside = cells.workloads(cells.here)
    mine, others = frozenset(rights), frozenset(other)
    return cells.here.with_workloads(replace(web, egress=mine), replace(beside, egress=others))


def permit(cells: TwoHosts, *rights: OutsideRight, other: tuple[OutsideRight, ...] = ()) -> Outcome:
    return cells.here.become(state(cells, *rights, other=other))


def sets(cells: TwoHosts) -> list[str]:
    """Those of networks outside that the kernel has."""
    return [name for name in cells.here.netns.run("ipset", "list", "-n").split() if name.startswith(OUTSIDE_SETS)]


@pytest.mark.parametrize("networks", [TWO, MANY, EVERYWHERE], ids=["few", "many", "all"])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_exactly_these_networks_are_reached_at_their_edges(
    cells: TwoHosts, world: Node, networks: tuple[IPv4Network, ...], protocol: str
) -> None:
    port = 0 if protocol == "icmp" else 443
    permit(cells, right(protocol, str(port), networks))
    edges = EDGES if protocol == "tcp" else FEW_EDGES  # the kernel is slow to refuse what is not TCP
    reached = {address for address in edges if passes(cells.web, address, protocol, port)}
    assert reached == {address for address in edges if any(IPv4Address(address) in each for each in networks)}
    assert not cells.here.left_to_do(), str(cells.here.left_to_do())


def test_a_right_is_to_its_protocol_and_ports_for_its_app_alone(cells: TwoHosts, world: Node) -> None:
    permit(cells, right("tcp", "400-443", MANY), right("udp", "80", TWO), other=(right("icmp", "0", MANY),))
    inside = "198.18.1.1"
    assert passes(cells.web, inside, "tcp", 443)
    assert passes(cells.web, inside, "udp", 80)
    for protocol, port in (("tcp", 80), ("udp", 443), ("icmp", 0)):
        assert not passes(cells.web, inside, protocol, port), protocol
    assert passes(cells.other, inside, "icmp", 0)
    assert not passes(cells.other, inside, "tcp", 443)
    assert cells.other.ping(inside, kind=13) is Refused, "of ICMP an echo alone"


def test_who_is_called_outside_sees_the_cells_own_address(cells: TwoHosts, world: Node) -> None:
    permit(cells, right("tcp", "8443", TWO))
    with world.listen(8443) as listener:
        cells.web.dial("198.18.1.1", 8443)
        assert listener.accept()[1][0] == str(cells.cell(cells.here).address)


NEVER = nets("198.18.1.7/32", "198.18.2.0/24", "127.0.0.0/8", "10.255.0.0/16")
MORE_NEVER = (*NEVER, *(IPv4Network((0xC6130000 + 2 * number, 32)) for number in range(20)))


@pytest.mark.parametrize("never", [NEVER, MORE_NEVER], ids=["few", "many"])
@pytest.mark.parametrize("default", [False, True], ids=["by a right", "by default"])
def test_what_is_never_outside_is_reached_by_nothing(
    cells: TwoHosts, world: Node, never: tuple[IPv4Network, ...], default: bool
) -> None:
    everything = [
        right(protocol, ports, EVERYWHERE) for protocol, ports in (("tcp", "1-65535"), ("udp", "1-65535"), ("icmp", "0"))
    ]
    open_ = state(cells, *everything)
    world.run("ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
    cells.here.become(replace(open_, never_outside=never, egress_allowed=default))
    closed = ("198.18.1.7", "198.18.2.200", "169.254.169.254", "10.255.7.7", str(cells.cell(cells.there).address))
    for address in closed:
        assert not passes(cells.web, address, "tcp", 443), address
    assert not passes(cells.web, closed[0], "udp", 443)
    assert not passes(cells.web, closed[0], "icmp", 0)
    with world.datagrams(4789):
        assert not passes(cells.web, "198.18.3.3", "udp", 4789), "where tunnels end"
    assert passes(cells.web, "198.18.1.8", "tcp", 443)
    if len(never) > len(NEVER):
        assert not passes(cells.web, "198.19.0.4", "tcp", 443)
        assert passes(cells.web, "198.19.0.5", "tcp", 443)


def test_apps_of_the_same_networks_share_one_set_and_the_last_one_takes_it_along(cells: TwoHosts, world: Node) -> None:
    permit(cells, right("tcp", "443", MANY), other=(right("udp", "80", MANY), right("tcp", "80", TWO)))
    assert len(sets(cells)) == 1
    permit(cells, right("tcp", "443", MANY))
    assert len(sets(cells)) == 1
    changes = cells.here.turn(state(cells, right("tcp", "443", MANY[1:])))
    assert (len(changes.outside.add), len(changes.outside.drop)) == (1, 1)
    assert len(sets(cells)) == 1
    assert not passes(cells.web, "198.18.1.1", "tcp", 443)
    assert passes(cells.web, "198.18.1.192", "tcp", 443)
    permit(cells)
    assert sets(cells) == []
    assert not cells.here.left_to_do()


@pytest.mark.parametrize("spoiled", ["add {} 198.18.77.0/24", "del {} 198.18.4.1", "flush {}"])
def test_a_set_that_another_program_has_changed_is_made_right_again(cells: TwoHosts, world: Node, spoiled: str) -> None:
    permit(cells, right("tcp", "443", MANY))
    (name,) = sets(cells)
    assert not cells.here.left_to_do()
    cells.here.netns.run("ipset", *spoiled.format(name).split())
    assert list(cells.here.left_to_do().outside.change) == [name]
    cells.here.become(cells.here.state)
    assert passes(cells.web, "198.18.4.1", "tcp", 443)
    assert not passes(cells.web, "198.18.77.1", "tcp", 443)
    assert not cells.here.left_to_do()


def test_one_network_in_anothers_place_is_found_within_a_minute(cells: TwoHosts) -> None:
    permit(cells, right("tcp", "443", MANY))
    (name,) = sets(cells)
    now = 0.0

    def looks() -> tuple[bool, bool, bool]:
        nonlocal now
        reader = OutsideSets(clock=lambda: now)
        known = reader.read()[name] == MANY
        cells.here.netns.run("ipset", "del", name, "198.18.4.1")
        cells.here.netns.run("ipset", "add", name, "198.18.77.0/24")
        at_once = reader.read()[name] == MANY
        now = BELIEVED + 1
        later = reader.read()[name] == MANY
        reader.close()
        return known, at_once, later

    assert run_in(cells.here.netns.path, looks) == (True, True, False)


def test_a_set_that_another_programs_rule_names_is_left_until_it_is_let_go(cells: TwoHosts, world: Node) -> None:
    permit(cells, right("tcp", "443", MANY))
    (name,) = sets(cells)
    rule = ("-m", "set", "--match-set", name, "dst", "-j", "ACCEPT")
    cells.here.netns.run("iptables", "-A", "OUTPUT", *rule)
    assert permit(cells) == Outcome({})
    assert sets(cells) == [name]
    assert not passes(cells.web, "198.18.1.1", "tcp", 443)
    cells.here.netns.run("iptables", "-D", "OUTPUT", *rule)
    permit(cells)
    assert sets(cells) == []


def test_a_thousand_networks_are_one_rule_and_are_all_read_back(cells: TwoHosts) -> None:
    networks = tuple(IPv4Network((0xC6120000 + 4 * number, 31)) for number in range(1000))
    permit(cells, right("tcp", "443", networks))
    (name,) = sets(cells)
    assert f"Number of entries: {len(networks)}" in cells.here.netns.run("ipset", "list", name)
    assert not cells.here.left_to_do()


@pytest.mark.parametrize("mode", [Mode.ACCEPT, Mode.STRICT])
def test_with_mutual_tls_the_way_out_is_the_same(cells: TwoHosts, world: Node, mode: Mode) -> None:
    cells.here.become(replace(state(cells, right("tcp", "443", MANY)), mutual_tls=MODES[mode]))
    assert passes(cells.web, "198.18.4.1", "tcp", 443)
    assert not passes(cells.web, "198.18.4.2", "tcp", 443)
    assert not cells.here.left_to_do()
