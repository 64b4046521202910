"""What a cell with peers has besides, as fragments of the chains in `rules.py`: one packet in another, over UDP.

Outside is a packet between two cells' underlay addresses. Who can send one that is taken can put any source and any tag
inside, so only peers' addresses are taken, and nobody here but the kernel sends any. Inside is a packet between containers: the
source's cell lets it go, the destination's judges it by the tag it carries. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dataplane.firewall.tunnel_origin import foreign
from dataplane.state import HostState, Tunnel
from dataplane.tables import TAG_MASK, TUNNEL_LINK, ChainKey

VTEPS_SET = "cellnet-vteps"
UNTRACKED = ChainKey(4, "raw", "CELLNET-OUTPUT")  # the chains that only a cell with a tunnel has
ORIGIN, PEERS = ChainKey(4, "mangle", "CELLNET-INPUT"), ChainKey(4, "mangle", "CELLNET-PEERS")
ASKING = "0x400000/0x400000"  # a mark that crosses the tunnel beside the tag: VXLAN's "don't learn", which we never do
# chains that name the set
NAMING = (PEERS, *(ChainKey(4, "filter", f"CELLNET-{name}") for name in ("FORWARD", "EGRESS")))
JUMPS: Mapping[ChainKey, str] = {
    ChainKey(4, "raw", "OUTPUT"): UNTRACKED.chain,
    ChainKey(4, "mangle", "INPUT"): ORIGIN.chain,
}
PORTS = "32768-60999"  # those that the kernel gives by itself
MASKS = f"--nfmask {TAG_MASK:#x} --ctmask {TAG_MASK:#x}"

Rules = tuple[str, ...]
# each cell would take for an answer what the other's container sends, once its own has called it, though in vain: two that have
# both called would be connected. So a cell says which packets are of who has opened the flow, as it sees it
ASKED: Rules = (f"-o {TUNNEL_LINK} -m conntrack --ctdir ORIGINAL -j MARK --set-xmark {ASKING}",)
NO_ANSWER = f"-m mark --mark {ASKING} -m conntrack --ctdir REPLY"  # the mark first, which is cheaper to look at


@dataclass(frozen=True, slots=True)
class Fragments:
    """Rules by where they stand; all empty where there is no tunnel."""

    chains: Mapping[ChainKey, Rules] = field(default_factory=dict)
    unwrapped: Rules = ()
    untracked_in: Rules = ()
    remembered: Rules = ()
    asking: Rules = ()
    no_answers: Rules = ()
    masqueraded: Rules = ()
    outer_in: Rules = ()
    to_host: Rules = ()
    outer_out: Rules = ()
    masked: Rules = ()
    elsewhere: Rules = ()
    new: Rules = ()
    errors: Rules = ()
    egress: Rules = ()


def fragments(state: HostState) -> Fragments:
    """Those of a cell that is as `state` says."""
    return Fragments() if state.tunnel is None else _of(state.tunnel, state)


def _of(tunnel: Tunnel, state: HostState) -> Fragments:
    outer = f"-p udp -m udp --dport {tunnel.port}"
    return Fragments(
        chains=_chains(tunnel, outer),
        unwrapped=(f"-i {TUNNEL_LINK} -j RETURN",),  # where it may come from was judged before it was unwrapped
        untracked_in=(f"-d {tunnel.address}/32 {outer} -j CT --notrack",),
        # the tag of whoever opened it, for who asks later what may live on
        remembered=(f"-i {TUNNEL_LINK} -o cnet+ -m conntrack --ctstate NEW -j CONNMARK --save-mark {MASKS}",),
        asking=ASKED,
        no_answers=(f"-i {TUNNEL_LINK} -o cnet+ {NO_ANSWER} -g CELLNET-NEW",),
        # answers to that port would be taken for tunnelled packets
        masqueraded=(
            f"-s {state.subnet} ! -d {state.overlay} -p udp -m udp --sport {tunnel.port} -j MASQUERADE --to-ports {PORTS}",
        ),
        outer_in=(
            f"-d {tunnel.address}/32 -i {tunnel.interface} {outer} -j ACCEPT",  # a peer's: mangle has seen to that
            f"{outer} -j DROP",  # the kernel listens on every address
        ),
        to_host=(
            # answers to the cell's own connections
            f"-i {TUNNEL_LINK} -m conntrack --ctstate ESTABLISHED -m mark ! --mark {ASKING} -j ACCEPT",
            f"-i {TUNNEL_LINK} -p icmp -m conntrack --ctstate RELATED -j ACCEPT",
            f"-i {TUNNEL_LINK} -j CELLNET-REJECT",  # an answer all the same: by it a peer sees that the tunnel works
        ),
        outer_out=(
            # this host's users; `! --uid-owner 0` would be the kernel's own packets too
            f"{outer} -m owner --uid-owner 1-4294967294 -j DROP",
            f"-s {tunnel.address}/32 {outer} -j ACCEPT",
            f"-o {TUNNEL_LINK} -m conntrack --ctstate NEW -m mark ! --mark 0x0/{TAG_MASK:#x} -j CELLNET-REJECT",  # as no app
            f"-o {TUNNEL_LINK} -j ACCEPT",
        ),
        # other engines' guests: masqueraded to this cell's address, they would be a peer to the others
        masked=(f"{outer} -m set --match-set {VTEPS_SET} dst -j DROP",),
        elsewhere=(
            f"-i {TUNNEL_LINK} -j CELLNET-REJECT",  # a container that has gone, or that would use this cell as a router
            f"-o {TUNNEL_LINK} -j DROP",  # from outside into the overlay
        ),
        new=(
            f"-i {TUNNEL_LINK} -o cnet+ -g CELLNET-TO",
            f"-i cnet+ -o {TUNNEL_LINK} -j ACCEPT",  # the destination's cell judges
        ),
        errors=(
            f"-i {TUNNEL_LINK} {NO_ANSWER} -j CELLNET-REJECT",  # an error quotes what its sender likes
            f"-i {TUNNEL_LINK} -j ACCEPT",  # about their own flows only: the peer's cell has seen to that
        ),
        egress=(
            f"{outer} -j CELLNET-REJECT",  # now or when it becomes a peer's: masqueraded, it would be one of ours
            f"-m set --match-set {VTEPS_SET} dst -j CELLNET-REJECT",
        ),
    )


def _chains(tunnel: Tunnel, outer: str) -> Mapping[ChainKey, Rules]:
    of_its_own = (
        f"-j SET --map-set {VTEPS_SET} src --map-mark",
        f'-m bpf --bytecode "{foreign()}" -j DROP',
        "-j MARK --set-xmark 0x0/0xffffffff",  # a packet without a tag would keep it
    )
    return {
        UNTRACKED: (f"-s {tunnel.address}/32 {outer} -j CT --notrack",),  # an entry for each would cost, and say nothing
        ORIGIN: (f"-d {tunnel.address}/32 -i {tunnel.interface} {outer} -g {PEERS.chain}",),  # no other is taken
        PEERS: of_its_own,  # from a peer only what is from its own part of the overlay
    }
