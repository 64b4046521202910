"""Table nat: what containers send out of the overlay has the cell's own address out there, and inside of it their own, whatever
the host's rules say."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from dataplane import way_out
from dataplane.firewall import publish, resolver
from dataplane.state import HostState

# Those that the kernel gives by itself. A container that could have any other out there would send from a port of the host, and
# get what is sent there as the answer: what others send to a published port, to a program of the host, or to the tunnels' end
FIRST_OUT: Final = 32_768
LAST_OUT: Final = 60_999


def nat_chains(state: HostState) -> Mapping[str, Iterable[str]]:
    """The rules of each chain by its name."""
    own = tuple(_output(state))
    found = {"CELLNET-PREROUTING": _prerouting(state), "CELLNET-POSTROUTING": _postrouting(state)}
    return {**found, **({"CELLNET-OUTPUT": own} if own else {}), **publish.published_chains(state)}


def _prerouting(state: HostState) -> Iterator[str]:
    # a host that redirects everything, or all of a port, to a proxy of its own: what one container sends another goes there
    yield f"-s {state.overlay} -d {state.overlay} -j NETMAP --to {state.overlay}"
    yield from _output(state)


def _output(state: HostState) -> Iterator[str]:
    """What the host itself sends: as for what arrives."""
    if state.resolver:
        yield from resolver.kept_here(state.resolver)
    yield from publish.led_inside(state)


def _postrouting(state: HostState) -> Iterator[str]:
    # An app sees its caller's address, also where the host masquerades everything. Translated into itself, not only accepted:
    # then the other flavour's table and tables of nft find it done, and leave it. A published port keeps its detour, by
    # which a container reaches itself.
    yield f"-s {state.overlay} -d {state.overlay} -m conntrack ! --ctstate DNAT -j NETMAP --to {state.overlay}"
    yield from publish.translated(state)
    if not way_out.is_possible(state):
        return
    leaving, ports = f"-s {state.subnet} ! -d {state.overlay}", _ports_out(state)
    yield from (f"{leaving} -p {protocol} -j MASQUERADE --to-ports {ports}" for protocol in ("tcp", "udp"))
    yield f"{leaving} -j MASQUERADE"


def _ports_out(state: HostState) -> str:
    """The longest stretch that nothing is published in, nor tunnels end in; all of them where each is taken."""
    taken = [(port.first, port.last) for workload in state.workloads.values() for port in workload.publish]
    taken += [(state.tunnel.port, state.tunnel.port)] if state.tunnel else []
    best, begin = range(0), FIRST_OUT
    for first, last in sorted((*taken, (LAST_OUT + 1, LAST_OUT + 1))):
        best = max(best, range(begin, min(first, LAST_OUT + 1)), key=len)
        begin = max(begin, last + 1)
    return f"{best.start}-{best.stop - 1}" if best else f"{FIRST_OUT}-{LAST_OUT}"
