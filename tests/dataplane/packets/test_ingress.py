"""From outside to a container by a published port: with its own address, and by rights alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from dataplane.compile import compile_tables
from dataplane.firewall.backends.driver import Firewall
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.firewall.outside_matches import EVERYWHERE, FEW
from dataplane.state import INBOUND_PORT, HostState, OutsideRight, PublishedPort
from dataplane.tables import OUTSIDE_SETS, ChainKey
from tests.testlib.connections import is_alive
from tests.testlib.hosts import allow, underlay_of
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Node, Refused, connect_at_once
from tests.testlib.oracle import Mode
from tests.testlib.outside import answering, caller, passes, served
from tests.testlib.tunnels.modes import MODES
from tests.testlib.two_hosts import OTHER, WEB, TwoHosts, two_hosts

FIREWALLS: dict[str, Callable[[], Firewall]] = {"nft": NftFirewall, "legacy": LegacyFirewall}
HERE = str(underlay_of(1))
PORT = 5000


def nets(*texts: str) -> tuple[IPv4Network, ...]:
    return tuple(sorted(map(IPv4Network, texts)))


TWO = nets("198.18.1.0/24", "198.18.9.9/32")
MANY = nets("198.18.1.0/25", "198.18.1.192/26", "198.18.2.0/23", "198.18.4.1/32", "198.18.8.0/22", "198.19.128.0/17")
assert len(TWO) <= FEW < len(MANY)
EDGES = ("198.18.0.255", "198.18.1.0", "198.18.1.127", "198.18.1.128", "198.18.1.191", "198.18.1.192", "198.18.1.255",
         "198.18.2.0", "198.18.3.255", "198.18.4.0", "198.18.4.1", "198.18.9.8", "198.18.9.9", "198.18.11.255", "198.18.12.0",
         "198.19.127.255", "198.19.128.0", "198.19.255.255")  # fmt: skip


def right(protocol: str, ports: str, networks: tuple[IPv4Network, ...]) -> OutsideRight:
    first, _, last = ports.partition("-")
    return OutsideRight(protocol, int(first), int(last or first), networks)


def port(first: int, to: int, *, last: int = 0, protocol: str = "tcp", address: str = "") -> PublishedPort:
    return PublishedPort(protocol, IPv4Address(address) if address else None, first, last or first, to)


ALL = (right("tcp", "1-65535", EVERYWHERE), right("udp", "1-65535", EVERYWHERE))


@pytest.fixture(params=FIREWALLS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cells(netns: Callable[[str], Netns], backend: str) -> Iterator[TwoHosts]:
    with two_hosts(netns, firewalls=[FIREWALLS[backend]() for _ in range(2)]) as made:
        yield made


@pytest.fixture
def world(cells: TwoHosts) -> Iterator[Node]:
    made = cells.world()
    with served(made):
        yield made


def state(cells: TwoHosts, *publish: PublishedPort, rights: tuple[OutsideRight, ...] = ()) -> HostState:
    """Web publishes these, and may be reached by those."""
    web, beside = cells.workloads(cells.here)
    return cells.here.with_workloads(replace(web, publish=publish, ingress=frozenset(rights)), beside)


@pytest.mark.parametrize("networks", [TWO, MANY, EVERYWHERE], ids=["few", "many", "all"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_exactly_these_networks_reach_a_published_port(
    cells: TwoHosts, world: Node, networks: tuple[IPv4Network, ...], protocol: str
) -> None:
    cells.here.become(state(cells, port(8080, 80, protocol=protocol), rights=(right(protocol, "80", networks),)))
    with answering(cells.web, tcp=[80], udp=[80]):
        edges = EDGES if protocol == "tcp" else EDGES[:3]  # the kernel is slow to refuse what is not TCP
        reached = {each for each in edges if passes(caller(world, each), HERE, protocol, 8080)}
    assert reached == {each for each in edges if any(IPv4Address(each) in network for network in networks)}
    assert not cells.here.left_to_do(), str(cells.here.left_to_do())


def test_the_app_sees_the_real_source_also_where_the_host_masquerades_everything(
    cells: TwoHosts, world: Node, backend: str
) -> None:
    cells.here.become(state(cells, port(8080, PORT), rights=ALL))
    for _ in range(2):
        with cells.web.listen(PORT) as listener:
            caller(world, "198.18.7.7").dial(HERE, 8080)
            assert listener.accept()[1][0] == "198.18.7.7"
        cells.here.netns.run(f"iptables-{backend}", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")


def test_a_range_keeps_its_order_and_a_port_beside_it_is_the_hosts_own(cells: TwoHosts, world: Node) -> None:
    shifted, same = port(8000, 9000, last=8010), port(7000, 7000, last=7010, protocol="udp")
    cells.here.become(state(cells, shifted, same, rights=ALL))
    with answering(cells.web, tcp=[9000, 9004, 9010], udp=[7000, 7010]):
        found = {each for each in range(7999, 8012) if passes(world, HERE, "tcp", each)}
        assert found == {8000, 8004, 8010}
        assert passes(world, HERE, "udp", 7010)
        assert not passes(world, HERE, "udp", 7005)
    assert not cells.here.left_to_do(), str(cells.here.left_to_do())


def test_a_port_of_one_address_is_published_on_that_one_alone(cells: TwoHosts, world: Node) -> None:
    cells.here.netns.run("ip", "addr", "add", "10.77.0.100/24", "dev", "u0")
    cells.here.become(state(cells, port(8080, 80, address="10.77.0.100"), port(8081, 81), rights=ALL))
    with answering(cells.web, tcp=[80, 81]):
        for address, dialled, is_reached in (
            ("10.77.0.100", 8080, True), (HERE, 8080, False), ("10.77.0.100", 8081, True), (HERE, 8081, True),
        ):  # fmt: skip
            assert passes(world, address, "tcp", dialled) is is_reached, (address, dialled)


def test_without_a_right_a_published_port_is_closed_and_open_to_all_by_default(cells: TwoHosts, world: Node) -> None:
    closed = state(cells, port(8080, 80), port(5353, 53, protocol="udp"))
    with answering(cells.web, tcp=[80], udp=[53]):
        for default in (False, True, False):
            cells.here.become(replace(closed, ingress_allowed=default))
            assert passes(world, HERE, "tcp", 8080) is passes(world, HERE, "udp", 5353) is default
            assert not cells.here.left_to_do()


def test_what_is_not_published_is_not_reached_by_any_right(cells: TwoHosts, world: Node) -> None:
    world.run("ip", "route", "add", f"{cells.web.address}/32", "via", HERE)
    for default in (False, True):
        cells.here.become(replace(state(cells, rights=ALL), ingress_allowed=default))
        with answering(cells.web, tcp=[80]):
            assert not passes(world, HERE, "tcp", 80)
            assert world.connect(cells.web, 80) is Refused, "straight into the overlay"


def test_the_host_reaches_a_published_port_by_its_own_addresses_and_never_by_loopback(cells: TwoHosts) -> None:
    host = cells.cell(cells.here)
    cells.here.become(state(cells, port(8080, 80), port(5353, 53, protocol="udp")))
    with answering(cells.web, tcp=[80], udp=[53]):
        assert connect_at_once(host, HERE, 8080) is host.udp(HERE, 5353) is Connected
        for address in ("127.0.0.1", "127.9.9.9"):
            assert connect_at_once(host, address, 8080) is host.udp(address, 5353) is Refused


def test_containers_reach_it_by_their_tags_alone(cells: TwoHosts) -> None:
    web, beside = cells.workloads(cells.here, allow(OTHER, "80"))
    for allows, is_reached in ((frozenset(), False), (web.allows, True)):
        placed = replace(web, allows=allows, publish=(port(8080, 80),), ingress=frozenset(ALL))
        cells.here.become(replace(cells.here.with_workloads(placed, beside), ingress_allowed=is_reached))
        with answering(cells.web, tcp=[80]):
            assert passes(cells.other, HERE, "tcp", 8080) is is_reached
            assert not passes(cells.web, HERE, "tcp", 8080), "nor an instance itself, which is another app to itself"
            assert not passes(cells.api, HERE, "tcp", 8080), "nor from another cell"


def test_a_container_that_may_call_its_own_app_reaches_itself_by_its_published_port(cells: TwoHosts) -> None:
    web, beside = cells.workloads(cells.here, allow(WEB, "80"))
    cells.here.become(cells.here.with_workloads(replace(web, publish=(port(8080, 80),)), beside))
    with answering(cells.web, tcp=[80]):
        assert connect_at_once(cells.web, HERE, 8080) is Connected


def test_where_nothing_listens_a_call_is_refused_at_once(cells: TwoHosts, world: Node) -> None:
    for mode in Mode:
        published = state(cells, port(8080, 80), port(5353, 53, protocol="udp"), rights=ALL)
        cells.here.become(replace(published, mutual_tls=MODES[mode]))
        assert connect_at_once(world, HERE, 8080) is world.udp(HERE, 5353) is Refused, mode


@pytest.mark.parametrize("mode", [Mode.ACCEPT, Mode.STRICT])
def test_with_mutual_tls_the_outside_comes_in_plain_and_its_answers_get_out(cells: TwoHosts, world: Node, mode: Mode) -> None:
    cells.here.become(replace(state(cells, port(8080, PORT), rights=ALL), mutual_tls=MODES[mode]))
    with cells.web.listen(PORT) as listener:
        asking = world.dial(HERE, 8080)
        assert is_alive(asking, cells.web.keep(listener.accept()[0]))
    assert not cells.here.left_to_do()


def test_the_ends_of_tunnels_are_reached_from_no_outside(cells: TwoHosts, world: Node) -> None:
    for default in (False, True):
        open_ = replace(state(cells, port(8080, INBOUND_PORT), port(8081, 81), rights=ALL), ingress_allowed=default)
        cells.here.become(replace(open_, mutual_tls=MODES[Mode.STRICT]))
        with answering(cells.web, tcp=[INBOUND_PORT, 81]):
            assert not passes(world, HERE, "tcp", 8080)
            assert passes(world, HERE, "tcp", 8081)


def test_what_another_program_publishes_of_a_container_of_ours_needs_a_right_and_else_is_left_alone(
    cells: TwoHosts, world: Node, backend: str
) -> None:
    for target in (f"{cells.web.address}:80", f"{world.address}:90"):
        rule = ("-p", "tcp", "--dport", "8080" if ":80" in target else "9090", "-j", "DNAT", "--to-destination", target)
        cells.here.netns.run(f"iptables-{backend}", "-t", "nat", "-A", "PREROUTING", *rule)
    cells.here.netns.run(f"iptables-{backend}", "-t", "nat", "-A", "POSTROUTING", "-d", str(world.address), "-j", "MASQUERADE")
    with answering(cells.web, tcp=[80, 81]), answering(world, tcp=[90]):
        for rights, is_reached in (((), False), (ALL, True)):
            cells.here.become(state(cells, port(8081, 81), rights=rights))
            assert passes(world, HERE, "tcp", 8080) is passes(world, HERE, "tcp", 8081) is is_reached
            assert passes(world, HERE, "tcp", 9090)


def test_the_port_that_terminates_tls_takes_only_so_many_of_one_address(cells: TwoHosts) -> None:
    for publish, is_limited in ((port(8443, 61443), True), (port(8080, 80), False)):
        chains = compile_tables(state(cells, publish, rights=ALL)).chains
        rules = " ".join(chains[ChainKey(4, "filter", "CELLNET-INGRESS")])
        assert ("--dport 61443 -m connlimit" in rules) is is_limited


def test_rules_and_sets_that_are_lost_are_made_again_and_go_with_the_last_that_needs_them(
    cells: TwoHosts, world: Node, backend: str
) -> None:
    wanted = state(cells, port(8080, 80), rights=(right("tcp", "80", MANY),))
    cells.here.become(wanted)
    host = cells.here.netns
    with answering(cells.web, tcp=[80]):
        for spoiled in (
            (f"iptables-{backend}", "-t", "nat", "-F", "CELLNET-PUBLISHED"),
            (f"iptables-{backend}", "-t", "nat", "-F", "CELLNET-DETOURS"),
            (f"iptables-{backend}", "-t", "nat", "-F", "CELLNET-OUTPUT"),
            (f"iptables-{backend}", "-F", "CELLNET-INGRESS"),
            ("ipset", "flush", _outside_sets(host)[0]),
        ):
            host.run(*spoiled)
            assert cells.here.left_to_do()
            cells.here.become(wanted)
            assert passes(caller(world, "198.18.4.1"), HERE, "tcp", 8080)
            assert not passes(caller(world, "198.18.4.2"), HERE, "tcp", 8080)
            assert not cells.here.left_to_do()
    cells.here.become(state(cells))
    assert _outside_sets(host) == []
    assert "CELLNET-PUBLISHED" not in host.run(f"iptables-{backend}-save")


def _outside_sets(host: Netns) -> list[str]:
    return [name for name in host.run("ipset", "list", "-n").split() if name.startswith(OUTSIDE_SETS)]
