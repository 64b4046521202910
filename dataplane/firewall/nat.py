"""Table nat: what containers send out of the overlay has the cell's own address out there, and inside of it their own, whatever
the host's rules say."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from dataplane import way_out
from dataplane.firewall import publish, resolver
from dataplane.state import HostState

PORTS: Final = "32768-60999"  # those that the kernel gives by itself


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
    leaving = f"-s {state.subnet} ! -d {state.overlay}"
    if state.tunnel:
        # answers to that port would be taken for tunnelled packets
        yield f"{leaving} -p udp -m udp --sport {state.tunnel.port} -j MASQUERADE --to-ports {PORTS}"
    yield f"{leaving} -j MASQUERADE"
