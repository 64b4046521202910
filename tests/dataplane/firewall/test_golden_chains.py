"""The chains of a cell, word for word: some states as golden text, and the same text read back from both backends.

A change of the rules changes these files, so it is seen. They are written anew by
`CELLNET_GOLDEN=write pytest tests/dataplane/firewall/test_golden_chains.py`.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from dataplane.compile import compile_tables
from dataplane.firewall.backends.backends import Backend, firewall
from dataplane.firewall.outside_matches import EVERYWHERE
from dataplane.plan import plan
from dataplane.state import (
    Allow,
    HostService,
    HostState,
    Limits,
    MutualTls,
    OutsideRight,
    PublishedPort,
    Resolver,
    Tunnel,
    Workload,
)
from dataplane.tables import Tables
from tests.testlib.hosts import EMPTY, make_host, underlay_of
from tests.testlib.netns import Netns
from tests.testlib.oracle import Mode
from tests.testlib.tunnels.modes import MODES

GOLDEN = Path(__file__).parent / "golden"
ORG = "acme/*/*"
RESOLVER = Resolver(IPv4Address("169.254.0.2"), ("cell.internal",))


def _workload(number: int, *allows: Allow) -> Workload:
    address = EMPTY.subnet[2 + number]
    return Workload(
        name=f"c{number}", address=address, tag=number + 1, pin=Path("/pins") / f"c{number}", allows=frozenset(allows)
    )


def _plain() -> HostState:
    """Two apps side by side, one that is far away in the dispatch, a group, and a chain that is long enough to be split."""
    many = (Allow(tag, "tcp", 5000 + tag, 5000 + tag) for tag in range(1, 260))
    rights = (
        Allow(2, "tcp", 8080, 8080), Allow(2, "udp", 9000, 9010), Allow(0, "tcp", 443, 443, ORG), Allow(2, "icmp", 0, 0),
        Allow(0, "icmp", 0, 0, ORG),
    )  # fmt: skip
    placed = (
        _workload(0, *rights),
        _workload(1),
        _workload(200, *many),
    )
    return replace(
        EMPTY,
        workloads={each.address: each for each in placed},
        groups={ORG: frozenset({1, 2, 201})},
        host_services=(HostService("tcp", 9001), HostService("udp", 53)),
    )


def _with_tunnel(state: HostState) -> HostState:
    peers: dict[IPv4Network, IPv4Address] = {IPv4Network("10.255.2.0/24"): underlay_of(2)}
    return replace(state, tunnel=Tunnel("u0", underlay_of(1), vni=1, port=4789), peers=peers)


def _mutual_tls(mode: MutualTls) -> HostState:
    """Rights of each kind, as they are in a mode of mutual TLS."""
    rights = (
        Allow(2, "tcp", 8080, 8080), Allow(3, "tcp", 61443, 61443), Allow(4, "tcp", 1, 65535), Allow(5, "tcp", 15001, 15008),
        Allow(6, "udp", 53, 53), Allow(0, "tcp", 443, 443, ORG),
    )  # fmt: skip
    placed = (_workload(0, *rights), _workload(1))
    state = replace(EMPTY, workloads={each.address: each for each in placed}, groups={ORG: frozenset({1, 2})})
    return replace(_with_tunnel(state), mutual_tls=mode)


def _audited(mode: MutualTls) -> HostState:
    """Audits beside rights, of apps and of a group, of more apps than a list has, and of what is never a port of theirs."""
    rights = (
        Allow(2, "tcp", 8080, 8080), Allow(2, "udp", 9000, 9010, audit=True), Allow(3, "tcp", 1, 65535, audit=True),
        Allow(0, "tcp", 443, 443, ORG, audit=True), Allow(0, "icmp", 0, 0, ORG),
    )  # fmt: skip
    many = (Allow(tag, "tcp", 5000 + tag, 5000 + tag, audit=True) for tag in range(1, 260))
    placed = (_workload(0, *rights), _workload(1), _workload(200, *many))
    state = replace(EMPTY, workloads={each.address: each for each in placed}, groups={ORG: frozenset({1, 2})})
    return replace(_with_tunnel(state), mutual_tls=mode)


def _rights() -> HostState:
    """Apps with few networks, with many, with all, and two with the same; and more that is never outside than has rules."""
    few, many = (
        tuple(IPv4Network((first, 24)) for first in range(0xC6336400, 0xC6336400 + 256 * size, 256)) for size in (2, 9)
    )
    both = frozenset(
        {OutsideRight("tcp", 443, 443, few), OutsideRight("udp", 1, 65535, many), OutsideRight("tcp", 80, 89, many)}
    )
    every = frozenset({OutsideRight("tcp", 1, 65535, EVERYWHERE), OutsideRight("icmp", 0, 0, few)})
    rights = {1: both, 2: both, 201: every}
    state = _plain()
    placed = {each.address: replace(each, egress=rights[each.tag]) for each in state.workloads.values()}
    return replace(
        state, workloads=placed, never_outside=(EMPTY.overlay, *(IPv4Network((0x0A4D0000 + n, 32)) for n in range(17)))
    )


def _limits() -> HostState:
    """Containers with limits on flows to the outside, of one kind, of both, and of rate alone, which is no rule."""
    limits = {1: Limits(connections=100, new=50), 2: Limits(rate=100_000_000), 201: Limits(new=3000)}
    state = _rights()
    return replace(state, workloads={each.address: replace(each, limits=limits[each.tag]) for each in state.workloads.values()})


def _published() -> HostState:
    """Ports alone, ranges, one of an address, the one that terminates TLS; rights from few networks, from many and from all."""
    few, many = (
        tuple(IPv4Network((first, 24)) for first in range(0xC6336400, 0xC6336400 + 256 * size, 256)) for size in (2, 9)
    )
    ports = {
        1: (PublishedPort("tcp", None, 8080, 8080, 80), PublishedPort("tcp", IPv4Address("192.0.2.7"), 8443, 8443, 61443)),
        2: (PublishedPort("tcp", None, 9000, 9010, 9000), PublishedPort("udp", None, 5300, 5309, 53)),
    }
    rights = {
        1: frozenset({OutsideRight("tcp", 80, 80, EVERYWHERE), OutsideRight("tcp", 61443, 61443, few)}),
        201: frozenset({OutsideRight("udp", 53, 62, many), OutsideRight("icmp", 0, 0, few)}),
    }
    state = _plain()
    placed = {
        each.address: replace(each, publish=ports.get(each.tag, ()), ingress=rights.get(each.tag, frozenset()))
        for each in state.workloads.values()
    }
    return replace(state, workloads=placed, resolver=RESOLVER)


def _many_published() -> HostState:
    """More than one part of ports, of both protocols; open to all."""
    ports = tuple(PublishedPort(protocol, None, first, first, 80) for protocol in ("udp", "tcp") for first in range(8000, 8020))
    placed = replace(_workload(0), publish=ports)
    return replace(EMPTY, workloads={placed.address: placed}, ingress_allowed=True)


STATES: dict[str, Callable[[], HostState]] = {
    "plain": _plain,
    "plain_egress": lambda: replace(_plain(), egress_allowed=True),
    "tunnel": lambda: _with_tunnel(_plain()),
    "tunnel_egress": lambda: _with_tunnel(replace(_plain(), egress_allowed=True)),
    "accept": lambda: _mutual_tls(MODES[Mode.ACCEPT]),
    "strict": lambda: _mutual_tls(MODES[Mode.STRICT]),
    "audit": lambda: _audited(MODES[Mode.NONE]),
    "audit_accept": lambda: _audited(MODES[Mode.ACCEPT]),
    "rights": _rights,
    "rights_tunnel": lambda: _with_tunnel(replace(_rights(), never_outside=(IPv4Network("127.0.0.0/8"),))),
    "limits": _limits,
    "published": _published,
    "published_strict": lambda: replace(_with_tunnel(_published()), mutual_tls=MODES[Mode.STRICT]),
    "published_by_default": _many_published,
    "resolver": lambda: replace(_plain(), resolver=RESOLVER),
    "resolver_tunnel": lambda: _with_tunnel(replace(_plain(), resolver=RESOLVER)),
}


def _text(tables: Tables) -> str:
    """As iptables-save would print it, family, table and chain in the order of their names."""
    lines: list[str] = []
    for key in sorted({*tables.chains, *tables.jumps}):
        lines.append(f"# {key}")
        lines += [f"jump behind {place} that may accept" for place in tables.jumps.get(key, ())]
        lines += [f"-A {key.chain} {rule}" for rule in tables.chains.get(key, ())]
    return "\n".join([*lines, ""])


@pytest.mark.parametrize("name", STATES)
def test_the_chains_are_those_of_the_golden_text(name: str) -> None:
    path, text = GOLDEN / f"{name}.txt", _text(compile_tables(STATES[name]()))
    if os.environ.get("CELLNET_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
@pytest.mark.parametrize("name", STATES)
def test_both_backends_read_back_the_golden_text(name: str, backend: Backend, netns: Callable[[str], Netns]) -> None:
    host = make_host(netns, containers=0, firewall=firewall(backend))
    state = STATES[name]()
    # the rules and the sets that they name are there before any link is: the containers themselves are not needed
    police = replace(
        compile_tables(state),
        veths={},
        links_up={},
        interiors={},
        neighbours={},
        routes={},
        vteps={},
        fdb={},
        sysctls={},
        addresses={},
        rates={},
    )
    host.kernel.apply(plan(police, host.read(police)), police).result()
    assert _text(host.read(police)) == (GOLDEN / f"{name}.txt").read_text()
