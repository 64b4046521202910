"""The packet's way through iptables, as text in iptables-save's own words, so that what is read back compares equal.

Nothing passes that no container's chain accepts; refusal is answered at once. Order and reasons stand on each line.
Pure: HostState in, chains out.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from dataplane.firewall import overlay, rights
from dataplane.firewall.quoted_packets import about_others
from dataplane.state import HostService, HostState
from dataplane.tables import CELLFUL, ChainKey

TAGS_SET = "cellnet-tags"
TAGGING = ChainKey(4, "mangle", "CELLNET-FORWARD")  # the chain that names the set
RESET = "REJECT --reject-with tcp-reset"
ESTABLISHED = "-m conntrack --ctstate ESTABLISHED -j ACCEPT"
# errors about what is allowed. Not all that is related: a conntrack helper of the host's (FTP, SIP) would open ports by it
ERRORS = "-p icmp -m conntrack --ctstate RELATED"
SYN = "--tcp-flags FIN,SYN,RST,ACK SYN"
LINK_LOCAL = "169.254.0.0/16"

# built-in chain -> the chain of ours that it jumps to first
JUMPS: Mapping[ChainKey, str] = {
    ChainKey(4, "raw", "PREROUTING"): "CELLNET-PREROUTING",
    ChainKey(4, "mangle", "FORWARD"): "CELLNET-FORWARD",
    ChainKey(4, "filter", "INPUT"): "CELLNET-INPUT",
    ChainKey(4, "filter", "FORWARD"): "CELLNET-FORWARD",
    ChainKey(4, "filter", "OUTPUT"): "CELLNET-OUTPUT",
    ChainKey(6, "raw", "PREROUTING"): "CELLNET-PREROUTING",
}
# for whom containers may leave: without a rule for it the kernel does not look each packet up for translations
LEAVING: Mapping[ChainKey, str] = {ChainKey(4, "nat", "POSTROUTING"): "CELLNET-POSTROUTING"}
EVERY_JUMP: Mapping[ChainKey, str] = {**JUMPS, **LEAVING, **overlay.JUMPS}


def jumps(state: HostState) -> Mapping[ChainKey, str]:
    """Those of a cell that is as `state` says."""
    return {**JUMPS, **(LEAVING if state.egress_allowed else {}), **(overlay.JUMPS if state.tunnel else {})}


@lru_cache(maxsize=CELLFUL)
def container_chain(address: IPv4Address) -> str:
    """Name of the chain that decides what reaches one container."""
    return f"CELLNET-{int(address):08x}"


def chains(state: HostState) -> dict[ChainKey, tuple[str, ...]]:
    """Every chain of ours on this cell, by key; a value is its rules without `-A CHAIN`."""
    across = overlay.fragments(state)
    found = {
        ChainKey(4, "raw", "CELLNET-PREROUTING"): (
            f"! -s {state.subnet} -i cnet+ -j DROP",  # a foreign source
            *across.unwrapped,
            # wrong veth, a veth nobody has programmed, an outsider; before conntrack, so that a forged reset closes nothing
            f"-s {state.overlay} -m rpfilter --invert -j DROP",
            # the same for who claims to be the cell itself, or whom the cell has connected to
            f"! -s {state.overlay} -d {state.overlay} -m rpfilter --invert -j DROP",
            # conntrack relates an error to the flow that it quotes, whoever sends it: containers speak of their own flows only
            f'-i cnet+ -p icmp -m bpf --bytecode "{about_others()}" -j DROP',
            *across.untracked_in,
        ),
        ChainKey(6, "raw", "CELLNET-PREROUTING"): ("-i cnet+ -j DROP",),  # the overlay has no IPv6
        TAGGING: (
            *across.asking,
            # only a SYN can be new: what follows it pays for no more than this
            f"-p tcp -m tcp ! {SYN} -j RETURN",
            # else every packet: it may be new at its destination though it is established here; in FORWARD, because portmap's
            # mark (nat PREROUTING) would add to a tag set earlier
            f"-i cnet+ -j SET --map-set {TAGS_SET} src --map-mark",
            *across.remembered,
        ),
    }
    if state.egress_allowed:
        masquerade = f"-s {state.subnet} ! -d {state.overlay} -j MASQUERADE"
        found[ChainKey(4, "nat", "CELLNET-POSTROUTING")] = (*across.masqueraded, masquerade)
    found |= across.chains
    found |= _filter(_fixed(state, across)) | _filter(_dispatch(state))
    for workload in state.workloads.values():
        found |= _filter(rights.of_container(container_chain(workload.address), workload.allows))
    for name, tags in state.groups.items():
        found |= _filter(rights.of_group(name, tags))
    return found


def _filter(named: Mapping[str, tuple[str, ...]]) -> dict[ChainKey, tuple[str, ...]]:
    return {ChainKey(4, "filter", name): rules for name, rules in named.items()}


def _fixed(state: HostState, across: overlay.Fragments) -> dict[str, tuple[str, ...]]:
    return {
        "CELLNET-INPUT": (*across.outer_in, "-i cnet+ -g CELLNET-HOST", *across.to_host),
        "CELLNET-HOST": (
            ESTABLISHED,  # answers to the cell's own connections
            f"{ERRORS} -j ACCEPT",
            *(_host_service(service) for service in sorted(state.host_services)),
            "-j CELLNET-REJECT",
        ),
        "CELLNET-OUTPUT": (*across.outer_out, "-o cnet+ -j ACCEPT"),  # hosts whose own policy is DROP
        "CELLNET-FORWARD": (
            *across.masked,  # answers too: a peer's guest, behind its address, may call a published port from the tunnel's
            f"-i cnet+ {ESTABLISHED}",  # the fast path
            *across.no_answers,
            f"-o cnet+ {ESTABLISHED}",
            "-i cnet+ -g CELLNET-NEW",
            "-o cnet+ -g CELLNET-NEW",
            *across.elsewhere,
            f"-d {state.overlay} -j CELLNET-REJECT",  # no such container: not out again by the default route
        ),
        "CELLNET-NEW": (
            "-m conntrack --ctstate INVALID -j DROP",
            f"{ERRORS} -g CELLNET-ERRORS",
            f"-p tcp -m tcp ! {SYN} -j {RESET}",  # what a revoke has cut: whoever sends first is reset
            "-i cnet+ -o cnet+ -g CELLNET-TO",
            *across.new,
            "-i cnet+ -g CELLNET-EGRESS",
            "-m conntrack --ctstate DNAT -j ACCEPT",  # a published port, from outside only: containers were judged above
            "-j CELLNET-REJECT",  # routed straight in
        ),
        "CELLNET-ERRORS": (
            "-i cnet+ -j ACCEPT",  # about its own flows only, raw has seen to that
            *across.errors,
            # from elsewhere only about masqueraded and published flows: out there nobody has seen another
            "-m conntrack --ctstate SNAT -j ACCEPT",
            "-m conntrack --ctstate DNAT -j ACCEPT",
            "-j CELLNET-REJECT",
        ),
        "CELLNET-EGRESS": (
            f"-d {state.overlay} -j CELLNET-REJECT",  # no such container: refused at once
            *(
                (f"-d {LINK_LOCAL} -j CELLNET-REJECT", *across.egress, "-j ACCEPT")
                if state.egress_allowed
                else ("-j CELLNET-REJECT",)
            ),
        ),
        "CELLNET-REJECT": (f"-p tcp -j {RESET}", "-j REJECT --reject-with icmp-port-unreachable"),
    }


def _host_service(service: HostService) -> str:
    return f"-p {service.protocol} -m {service.protocol} --dport {service.port} -j ACCEPT"


@lru_cache(maxsize=CELLFUL)
def _to_container(address: IPv4Address) -> str:
    return f"-d {address}/32 -g {container_chain(address)}"


@lru_cache(maxsize=8)
def _blocks(subnet: IPv4Network) -> tuple[IPv4Network, ...]:
    return tuple(subnet.subnets(new_prefix=min(subnet.prefixlen + 4, 32)))


def _dispatch(state: HostState) -> dict[str, tuple[str, ...]]:
    """Two levels of 16, so that the way to a container's chain is at most 32 rules among 256 containers."""
    blocks = _blocks(state.subnet)
    members: dict[int, list[IPv4Address]] = {number: [] for number in range(len(blocks))}
    size = blocks[0].num_addresses
    for address in sorted(state.workloads, key=int):
        members[(int(address) - int(state.subnet.network_address)) // size].append(address)
    found = {
        f"CELLNET-TO-{number:x}": (
            *(_to_container(address) for address in members[number]),
            "-j CELLNET-REJECT",
        )
        for number in members
    }
    found["CELLNET-TO"] = (
        *(f"-d {block} -g CELLNET-TO-{number:x}" for number, block in enumerate(blocks)),
        "-j CELLNET-REJECT",
    )
    return found
