"""Truth tables of the outside: what comes of calls out by address and by name, and of calls in by published ports, beside
what the oracle says. The same rules and calls for one cell and for many, with either backend, plain and in strict mode.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.dns.client import ask
from tests.testlib.dns.scripted_server import scripted_dns
from tests.testlib.instance import Instance
from tests.testlib.node import Node
from tests.testlib.oracle import Known, Mode, Rule, arrives, comes_in, goes_out
from tests.testlib.outside import caller, passes, served

WEB, API, JOB, OTHER = APPS = ("acme/shop/web", "acme/shop/api", "acme/batch/job", "evil/shop/web")
NETWORKS: tuple[Rule, ...] = (
    {
        "from": WEB,
        "to": {"cidr": ["198.18.0.0/24", "198.18.4.0/22"], "except": ["198.18.5.0/24", "198.18.0.99/32"]},
        "tcp": ["443"],
    },
    {"from": "acme/shop/*", "to": {"cidr": "198.18.1.7"}, "tcp": ["80", "8000-8080"], "udp": ["5353"]},
    {"from": [JOB, API], "to": {"cidr": [f"198.19.{number}.0/25" for number in range(0, 40, 2)]}, "tcp": "any", "icmp": "echo"},
    {"from": JOB, "to": {"cidr": "198.18.5.0/24"}, "tcp": ["443"]},
    {"from": "acme/*/*", "to": {"cidr": "10.77.0.0/24"}, "tcp": "any", "udp": "any"},  # cells, which are never outside
)  # fmt: skip
HOSTS: tuple[Rule, ...] = (
    {"from": WEB, "to": {"host": ["api.example.com", "*.example.org"]}, "tcp": ["443"]},
    {"from": "acme/shop/*", "to": {"host": "api.example.com"}, "tcp": ["8000-9000"], "udp": ["5353"]},
    {"from": JOB, "to": {"host": "example.org"}, "tcp": "any"},
    {"from": [JOB, API], "to": {"host": "*.b.example.org"}, "udp": "any", "icmp": "echo"},
)
CALLERS: tuple[Rule, ...] = (
    {
        "from": {"cidr": ["198.18.0.0/24", "198.18.4.0/22"], "except": ["198.18.5.0/24", "198.18.0.99"]},
        "to": WEB, "tcp": ["443"],
    },
    {"from": {"cidr": "198.18.1.7"}, "to": "acme/shop/*", "tcp": ["80", "8000-8080"], "udp": ["5353"]},
    {"from": {"cidr": [f"198.19.{number}.0/25" for number in range(0, 40, 2)]}, "to": JOB, "tcp": "any"},
    {"from": {"cidr": "0.0.0.0/0", "except": ["198.18.0.0/15", "10.77.0.1"]}, "to": API, "tcp": ["80"]},
    {"from": {"cidr": "198.18.5.0/24"}, "to": JOB, "tcp": ["443"]},
)  # fmt: skip
CONTAINERS: tuple[Rule, ...] = (
    {"from": "acme/*/*", "to": API, "tcp": "any"},
    {"from": WEB, "to": JOB, "tcp": ["443"], "udp": ["5353"]},
)
RULES = (*NETWORKS, *HOSTS, *CALLERS, *CONTAINERS)

ADDRESSES = ("198.18.0.0", "198.18.0.98", "198.18.0.99", "198.18.0.100", "198.18.0.255", "198.18.1.0", "198.18.1.7",
             "198.18.4.0", "198.18.4.255", "198.18.5.0", "198.18.5.255", "198.18.6.0", "198.18.7.255", "198.18.8.0",
             "198.19.0.0", "198.19.0.127", "198.19.0.128", "198.19.38.1", "198.19.40.0")  # fmt: skip
NAMES = ("api.example.com", "x.api.example.com", "example.com", "example.org", "a.example.org", "b.example.org",
         "c.b.example.org", "d.c.b.example.org", "evilexample.org", "example.org.evil.net")  # fmt: skip
RECORDS = {name: f"198.18.30.{number}" for number, name in enumerate(NAMES)}
PORTS, EDGES, UDP = (80, 443, 8080), (1, 7999, 8000, 8081, 65535), 5353
EVERY_PORT = (*(("tcp", port) for port in (*PORTS, *EDGES)), ("udp", UDP), ("icmp", 0))
SOME_PORTS = (*(("tcp", port) for port in PORTS), ("udp", UDP), ("icmp", 0))
ON_EVERY_PORT = frozenset({"198.18.1.7", "198.18.0.0", "198.19.0.0"})
PUBLISHED = (*(("tcp", port) for port in (*PORTS, *EDGES[1:-1])), ("udp", UDP))
FIRST = {app: 7000 + 100 * number for number, app in enumerate(APPS)}  # where its ports are published


@dataclass(frozen=True)
class Server:
    """A container that publishes all ports; `known` is what its cell goes by."""

    app: str
    cell: CellUnderTest
    inside: Instance
    known: Known
    mode: Mode


@contextmanager
def outside_of(*cells: CellUnderTest) -> Iterator[None]:
    """Every address of the outside answers, and its name server; cells report each refusal, not only some a second."""
    for each in cells:
        each.host.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000",
                      "net.ipv4.icmp_msgs_burst=10000")  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(served(cells[0].outside, tcp=(*PORTS, *EDGES), udp=(UDP,)))
        dns = stack.enter_context(scripted_dns(cells[0].outside, at=OUTSIDE.ip))
        dns.records = {name: [f"A {address}"] for name, address in RECORDS.items()}
        yield


def placed(cell: CellUnderTest, app: str, *, known: Known, mode: Mode) -> Server:
    """An app that answers on all ports, and publishes them in their order from FIRST on."""
    words = [f"--publish={FIRST[app] + place}:{port}/{protocol}" for place, (protocol, port) in enumerate(PUBLISHED)]
    ports = [port for _, port in PUBLISHED]
    return Server(app, cell, cell.run_app(app, name=app.replace("/", "-"), port=ports, server=True, options=words), known, mode)


def by_address(source: Server) -> Mapping[str, bool]:
    """Calls out, each by its words, and whether it gets through. All of these fail where that is not as the oracle has it."""
    calls = [(to, *each) for to in ADDRESSES for each in (EVERY_PORT if to in ON_EVERY_PORT else SOME_PORTS)]
    wanted = {each: goes_out(source.app, to=each[0], protocol=each[1], port=each[2], known=source.known) for each in calls}
    return _agreed(wanted, {each: passes(source.inside, *each) for each in wanted})


def by_name(source: Server) -> Mapping[str, bool]:
    """Calls to hosts, whose names it asks for first: it is told the addresses of those alone that it may reach by any port."""
    wanted = {
        (name, *each): goes_out(source.app, to=name, protocol=each[0], port=each[1], known=source.known)
        for name in NAMES
        for each in EVERY_PORT
    }
    told = {name: ask(source.inside, name).addresses for name in NAMES}
    assert told == {name: [RECORDS[name]] if any(wanted[name, *each] for each in EVERY_PORT) else [] for name in NAMES}
    return _agreed(wanted, {each: passes(source.inside, RECORDS[each[0]], *each[1:]) for each in wanted})


def from_outside(server: Server, *callers: Node) -> Mapping[str, bool]:
    """Calls to its published ports, by all addresses of the outside and by these others besides."""
    nodes = {address: caller(server.cell.outside, address) for address in ADDRESSES}
    nodes |= {str(each.address): each for each in (server.cell.outside, *callers)}
    wanted = {
        (address, protocol, port): comes_in(address, to=server.app, protocol=protocol, port=port, known=server.known)
        for address in nodes
        for protocol, port in PUBLISHED
    }
    return _agreed(wanted, {each: _enters(nodes[each[0]], server, *each[1:]) for each in wanted})


def from_container(source: Server, server: Server) -> Mapping[str, bool]:
    """Calls of a container to published ports: of its own cell as to the container itself, of another cell never."""
    beside = source.cell is server.cell
    wanted = {
        (source.app, protocol, port): beside
        and arrives(source.app, to=server.app, protocol=protocol, port=port, known=server.known, mode=server.mode)
        for protocol, port in PUBLISHED
    }
    return _agreed(wanted, {each: _enters(source.inside, server, *each[1:]) for each in wanted})


def _enters(client: Node, server: Server, protocol: str, port: int) -> bool:
    return passes(client, str(server.cell.host.address), protocol, FIRST[server.app] + PUBLISHED.index((protocol, port)))


def _agreed(wanted: Mapping[tuple[str, str, int], bool], found: Mapping[tuple[str, str, int], bool]) -> Mapping[str, bool]:
    wrong = {each: passed for each, passed in found.items() if passed is not wanted[each]}
    assert not wrong, f"got through, or did not, against the language: {wrong}"
    return {f"{address} {protocol}/{port}": passed for (address, protocol, port), passed in found.items()}
