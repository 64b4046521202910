"""Table raw, before conntrack sees a packet: from here on a source address can be believed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from dataplane.firewall import bpf, resolver
from dataplane.firewall.matches import CONTAINERS, tunnelled
from dataplane.firewall.notes import noted_together
from dataplane.state import HostState
from dataplane.tables import TUNNEL_LINK, Note

FORGED: Final = "CELLNET-FORGED"
# the overlay has no IPv6
RAW_IPV6_CHAINS: Final[Mapping[str, Iterable[str]]] = {"CELLNET-PREROUTING": (f"-i {CONTAINERS} -j DROP",)}


def raw_chains(state: HostState) -> Mapping[str, Iterable[str]]:
    """The rules of each chain by its name."""
    sent = tuple(_output(state))
    found = {"CELLNET-PREROUTING": _prerouting(state), FORGED: (noted_together(Note.FORGED), "-j DROP")}
    return found | ({"CELLNET-OUTPUT": sent} if sent else {})


def _prerouting(state: HostState) -> Iterator[str]:
    """Whatever arrives at this host, from its containers, its peers or the world."""
    yield f"! -s {state.subnet} -i {CONTAINERS} -g {FORGED}"  # a foreign source
    if state.tunnel:
        yield f"-i {TUNNEL_LINK} -j RETURN"  # where it may come from was judged before it was unwrapped
    # wrong veth, a veth that is not set up, an outsider; before conntrack, so that a forged reset closes nothing
    yield f"-s {state.overlay} -m rpfilter --invert -g {FORGED}"
    # the same for a source that claims to be the cell itself, or a host that the cell has connected to
    yield f"! -s {state.overlay} -d {state.overlay} -m rpfilter --invert -g {FORGED}"
    # conntrack relates an error to the flow that it quotes, whatever its source: containers speak of their own flows only
    yield f'-i {CONTAINERS} -p icmp -m bpf --bytecode "{bpf.FOREIGN_QUOTE}" -g {FORGED}'
    if state.resolver:
        yield from resolver.untracked_arriving(state.resolver)
    if state.tunnel:
        # an entry for each tunnelled packet would cost, and say nothing
        yield f"-d {state.tunnel.address}/32 {tunnelled(state.tunnel)} -j CT --notrack"


def _output(state: HostState) -> Iterator[str]:
    """What this host itself sends: as for what arrives."""
    if state.resolver:
        yield from resolver.untracked_sent(state.resolver)
    if state.tunnel:
        yield f"-s {state.tunnel.address}/32 {tunnelled(state.tunnel)} -j CT --notrack"
