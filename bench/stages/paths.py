"""Paths from one container to another through a host, alike in everything but the rules of the host.

All are made by the dataplane's own code, without an agent: what an agent looks after every few seconds would show in the
figures of the others. What is not ours has our links, routes and neighbours and none of our rules.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from itertools import cycle, islice
from pathlib import Path

from bench.loads.load import LAST_PORT, PORT
from dataplane.compile import compile_tables
from dataplane.firewall.backends.backends import Backend, firewall
from dataplane.firewall.backends.driver import Firewall, FirewallTables
from dataplane.kernel import Kernel
from dataplane.plan import Delta, plan
from dataplane.state import Allow, HostState, Leaf, TlsListener, Workload
from dataplane.tables import ChainKey, Tables
from host import namespace
from host.process import run

OVERLAY, SUBNET = IPv4Network("10.255.0.0/16"), IPv4Network("10.255.1.0/24")
CLIENT = SUBNET[2]
MTU = 1450
CHAIN = 80  # rules for each container: 250 of them make the 20,000 that the bars speak of
SOURCES = 8
CLIENT_TAG = 0xFFF0  # behind all others, as rules are sorted by tag: the one that fits is the last of its chain
TIMEOUT = 60.0


class Rules(Enum):
    """Whose rules a path has."""

    NONE = "bare path"
    TEN = "ten-rule firewall"  # conntrack first, as one would write it
    FLAT = "flat list"  # every packet walks the list; answers pass as established at its end
    FLAT_ESTABLISHED = "flat list behind conntrack"  # only new connections walk it
    OURS = "cellnet"


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """One path. `count` is how many rules it has (ten-rule firewall: ten)."""

    rules: Rules
    backend: Backend
    count: int = 10

    def __str__(self) -> str:
        if self.rules is Rules.NONE:
            return f"{self.rules.value}"
        many = "" if self.rules is Rules.TEN else f", {self.count:,} rules"
        return f"{self.rules.value}{many}, {self.backend.value}"


@dataclass(frozen=True, slots=True)
class Made:
    """Namespaces of the two ends and of the hosts between them, and the server's address."""

    client: Path
    server: Path
    hosts: tuple[Path, ...]
    address: IPv4Address


class NotOurs:
    """Stands where a backend would: none of our rules are written."""

    def read(self) -> FirewallTables:
        """Nothing."""
        return FirewallTables({}, {})

    def apply(self, *, chains: Delta[ChainKey, tuple[str, ...]], jumps: Delta[ChainKey, tuple[int, ...]]) -> None:
        """Nothing."""


def make(setting: Setting, folder: Path) -> Made:
    """The path with its rules; its namespaces are pinned in `folder`, and go with it. Raises HostRefused."""
    ours = setting.rules is Rules.OURS
    server, state = state_of(setting.count if ours else 1, folder=folder, ours=ours)
    folder.mkdir()
    host = folder / "host"
    namespace.create(host)
    become(host, setting, state)
    write(host, setting, written(setting, server))
    return Made(state.workloads[CLIENT].pin, state.workloads[server].pin, (host,), server)


def become(host: Path, setting: Setting, state: HostState) -> None:
    """Make the containers' namespaces, and the cell in that of its host. Raises HostRefused."""
    ours, tables = setting.rules is Rules.OURS, compile_tables(state)
    for each in state.workloads.values():
        namespace.create(each.pin)
    _apply(host, firewall(setting.backend) if ours else NotOurs(), tables if ours else _links_only(tables))


def write(host: Path, setting: Setting, text: str) -> None:
    """Rules for iptables-restore; nothing happens where there are none. Raises HostRefused."""
    if text:
        restore = [f"iptables-{setting.backend.value}-restore", "-w"]
        namespace.run_in(host, lambda: run(restore, stdin=text.encode(), timeout=TIMEOUT))


def _apply(host: Path, backend: Firewall, tables: Tables) -> None:
    kernel = Kernel(backend, namespace=host)
    try:
        found = kernel.apply(plan(tables, Tables()), tables).result()
    finally:
        kernel.close()
    for failure in (*found.failures.values(), found.overlay):
        if failure is not None:
            raise failure


def _links_only(tables: Tables) -> Tables:
    """Without our rules, and without the look at the source that we ask of the kernel."""
    sysctls = {key: "0" if key.endswith("/rp_filter") else value for key, value in tables.sysctls.items()}
    return replace(tables, chains={}, jumps={}, tags={}, senders={}, sysctls=sysctls)


def state_of(rules: int, *, folder: Path, ours: bool) -> tuple[IPv4Address, HostState]:
    """The server that is found last, and a cell of the client and of servers with `rules` rules together."""
    server, workloads = crowd(SUBNET, rules, folder=folder, ours=ours)
    allows: frozenset[Allow] = frozenset()
    client = replace(workloads[server], name="client", address=CLIENT, tag=CLIENT_TAG, pin=folder / "client", allows=allows)
    return server, HostState(overlay=OVERLAY, subnet=SUBNET, mtu=MTU, workloads={CLIENT: client, **workloads})


def crowd(subnet: IPv4Network, rules: int, *, folder: Path, ours: bool) -> tuple[IPv4Address, dict[IPv4Address, Workload]]:
    """Containers with `rules` rules together, 80 for each, and the one of them that is found last."""
    addresses = [subnet[3 + number] for number in range(-(-rules // CHAIN))]
    last = max(addresses, key=_steps)
    shares = dict(zip([last, *(each for each in addresses if each != last)], _shares(rules), strict=True))
    listeners = (TlsListener(61443, Leaf(b"", b""), PORT),) if ours else ()  # a container that has a TLS port costs more
    return last, {
        address: Workload(
            name=str(address), address=address, tag=int(address) & 0xFF, pin=folder / str(address), listeners=listeners,
            allows=frozenset(_allows(share, last=address == last)),
        )
        for address, share in shares.items()
    }  # fmt: skip


def _steps(address: IPv4Address) -> int:
    """How many rules of the two levels of 16 a packet meets on its way to this container's chain."""
    block, place = divmod(int(address) & 0xFF, 16)
    return block + place


def _shares(rules: int) -> Iterator[int]:
    for done in range(0, rules, CHAIN):
        yield min(rules - done, CHAIN)


def _allows(count: int, *, last: bool) -> Iterator[Allow]:
    """Rules for others, none of which can be merged with another; the `last` one is the client's."""
    tags = cycle(range(0x100, 0x100 + SOURCES))
    for number, tag in enumerate(islice(tags, count - last)):
        yield Allow(tag, "tcp", 10_000 + 2 * number, 10_000 + 2 * number)
    if last:
        yield Allow(CLIENT_TAG, "tcp", PORT, LAST_PORT)


def written(setting: Setting, server: IPv4Address, *, client: IPv4Address = CLIENT, to_host: Sequence[str] = ()) -> str:
    """The rules of the other paths as iptables-restore reads them; empty where there are none.

    `to_host` are those of the ten that stand in INPUT.
    """
    established = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    fits = _accepts(client, server)
    match setting.rules:
        case Rules.TEN:
            rules = [established, "-m conntrack --ctstate INVALID -j DROP", *_others(setting.count - 3 - len(to_host)), fits]
        case Rules.FLAT:
            rules = [*_others(setting.count - 1), fits, established]
        case Rules.FLAT_ESTABLISHED:
            rules = [established, *_others(setting.count - 1), fits]
        case _:
            return ""
    lines = [*(f"-A INPUT {rule}" for rule in to_host), *(f"-A FORWARD {rule}" for rule in rules)]
    return "\n".join(["*filter", ":FORWARD DROP [0:0]", *lines, "COMMIT", ""])


def _others(count: int) -> Iterator[str]:
    """Rules for as many pairs of others."""
    base = IPv4Address("10.254.0.0")
    return (_accepts(base + number, SUBNET[3 + number % 250]) for number in range(count))


def _accepts(source: IPv4Address, destination: IPv4Address) -> str:
    return f"-s {source}/32 -d {destination}/32 -p tcp -m tcp --dport {PORT}:{LAST_PORT} -j ACCEPT"
