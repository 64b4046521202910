"""Table mangle, before a packet is judged: it gets its sender's tag as a mark."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from dataplane.firewall import bpf
from dataplane.firewall.matches import CONTAINERS, NOT_A_SYN, OPENER, STRIP_MPTCP, arriving
from dataplane.state import HostState, Tunnel
from dataplane.tables import TAG_MASK, TAGS_SET, TUNNEL_LINK, VTEPS_SET, WHOLE_MARK

# A container's reset that no other end gets, as its hops are used up, would close what conntrack has of a connection, and so
# leave room for another within a limit of open ones. Before the way is chosen: there the last hop is counted
RESETS_ARRIVE: Final = f"-i {CONTAINERS} -p tcp -m tcp --tcp-flags RST RST -j TTL --ttl-set 64"


def mangle_chains(state: HostState) -> Mapping[str, Iterable[str]]:
    """The rules of each chain by its name."""
    across: dict[str, Iterable[str]] = (
        {"CELLNET-INPUT": _input(state.tunnel), "CELLNET-PEERS": _peers()} if state.tunnel else {}
    )
    if any(each.limits.connections for each in state.workloads.values()):
        across["CELLNET-PREROUTING"] = (RESETS_ARRIVE,)
    return {**across, "CELLNET-FORWARD": _forward(state)}


def _input(tunnel: Tunnel) -> Iterator[str]:
    """To the host itself."""
    yield f"{arriving(tunnel)} -g CELLNET-PEERS"  # filter takes no other tunnelled packet


def _peers() -> Iterator[str]:
    """Tunnelled to this host. Inside there may be any source and any tag, so each peer may send only from its own part."""
    yield f"-j SET --map-set {VTEPS_SET} src --map-mark"  # that part of the overlay; none where the sender is no peer
    yield f'-m bpf --bytecode "{bpf.FOREIGN_ORIGIN}" -j DROP'
    yield f"-j MARK --set-xmark 0x0/{WHOLE_MARK:#x}"  # a packet without a tag would keep it


def _forward(state: HostState) -> Iterator[str]:
    """From or to containers."""
    if state.tunnel:
        yield f"-o {TUNNEL_LINK} -m conntrack --ctdir ORIGINAL -j MARK --set-xmark {OPENER}"  # for the destination's cell
    yield f"{NOT_A_SYN} -j RETURN"  # only a SYN can be new: what follows it pays for no more than this
    if state.mptcp:
        # both ends fall back to plain TCP, whose flow a revoke can end: of several subflows each end would mend the loss of one
        yield from (f"-i {link} -p tcp -j {STRIP_MPTCP}" for link in (CONTAINERS, *((TUNNEL_LINK,) if state.tunnel else ())))
    # else every packet: it may be new at its destination though it is established here; in FORWARD, because portmap's
    # mark (nat PREROUTING) would add to a tag set earlier
    yield f"-i {CONTAINERS} -j SET --map-set {TAGS_SET} src --map-mark"
    if state.tunnel:
        # the tag of the container that opened the flow, for a later decision on what may live on
        masks = f"--nfmask {TAG_MASK:#x} --ctmask {TAG_MASK:#x}"
        yield f"-i {TUNNEL_LINK} -o {CONTAINERS} -m conntrack --ctstate NEW -j CONNMARK --save-mark {masks}"
