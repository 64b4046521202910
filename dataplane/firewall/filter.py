"""Table filter: whether a packet passes. To the host, from the host, through the host; then the way to a container's own chain.

Nothing reaches a container that its chain does not accept (`rights.py`). Refusal is answered at once.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Final

from dataplane.admission import admitted, beyond_the_cell
from dataplane.firewall import resolver, rights
from dataplane.firewall.blocks import by_block
from dataplane.firewall.egress import egress_chains
from dataplane.firewall.ingress import ingress_chains
from dataplane.firewall.matches import (
    CONTAINERS,
    ECHO,
    ESTABLISHED,
    FRESH,
    NOT_A_SYN,
    OPENER,
    arriving,
    crowded,
    hashlimit,
    port_match,
    tunnelled,
)
from dataplane.firewall.notes import audited, noted
from dataplane.state import INBOUND_PORT, Allow, HostState
from dataplane.tables import (
    CELLFUL,
    EXCESS_TLS,
    EXCESS_TUNNELS,
    LIMITED_CALLS,
    LIMITED_DATAGRAMS,
    LIMITED_ECHOES,
    LIMITED_TUNNELS,
    TAG_MASK,
    TUNNEL_LINK,
    VTEPS_SET,
    Note,
)

RESET: Final = "REJECT --reject-with tcp-reset"
AT_ONCE: Final = (f"-p tcp -j {RESET}", "-j REJECT --reject-with icmp-port-unreachable")
# errors about what is allowed. Not all that is related: a conntrack helper of the host's (FTP, SIP) would open ports by it
ERROR: Final = "-p icmp -m conntrack --ctstate RELATED"
# an answer as conntrack sees it here, but its sender has opened the flow; the mark first, which is cheaper to look at
NO_ANSWER: Final = f"-m mark --mark {OPENER} -m conntrack --ctdir REPLY"
# Conntrack's table is one for all, so each container may make so many entries: without an answer those of datagrams last 30 s,
# as those of echoes do with one, those of refused calls 10 s
DATAGRAMS: Final = f"-p udp {FRESH} {hashlimit(rate=1_000, burst=10_000, name=LIMITED_DATAGRAMS)}"
ECHOES: Final = f"-p icmp {FRESH} {hashlimit(rate=1_000, burst=10_000, name=LIMITED_ECHOES)}"
CALLS: Final = f"-p tcp {FRESH} {hashlimit(rate=10_000, burst=10_000, name=LIMITED_CALLS)}"
# Handshakes are Envoy's dearest work, and all containers of the cell share it: one source may ask for so many, wherever on
# this cell they lead. An app that calls all others at once opens some tunnels to each; later each serves hundreds of calls
HANDSHAKES: Final = f"{port_match(INBOUND_PORT)} {FRESH} {hashlimit(rate=200, burst=2_000, name=LIMITED_TUNNELS)}"
# What one source may have open to all containers of this cell, of what Envoy can serve for all: to hold a connection open costs
# a caller nothing. An Envoy opens 1,024 tunnels for a container, and one more to each other that it has none to (`limits.py`)
MOST_TUNNELS_HERE: Final = 1_280
MOST_TLS_HERE: Final = 2_000
# matches nearly always, and has no target: what it leaves is the source's name, for half a minute (`flow_limits.py`)
EXCESS: Final = (
    "-m hashlimit --hashlimit-above 1/hour --hashlimit-burst 1 --hashlimit-mode srcip "
    "--hashlimit-name {} --hashlimit-htable-expire 30000"
)
USERS: Final = "1-4294967294"  # all but root: `! --uid-owner 0` would be the kernel's own packets too


def filter_chains(state: HostState) -> Mapping[str, Iterable[str]]:
    """The rules of each chain by its name."""
    found: dict[str, Iterable[str]] = {
        "CELLNET-INPUT": _input(state),
        "CELLNET-HOST": _host(state),
        "CELLNET-OUTPUT": _output(state),
        "CELLNET-FORWARD": _forward(state),
        "CELLNET-NEW": _new(state),
        "CELLNET-ERRORS": _errors(state),
        "CELLNET-REJECT": (*noted(Note.REFUSED, state.overlay), *AT_ONCE),
        "CELLNET-LIMITED": (*noted(Note.LIMITED, state.overlay), *AT_ONCE),
        "CELLNET-INVALID": (*noted(Note.INVALID, state.overlay), "-j DROP"),
        "CELLNET-EXCESS-TLS": (EXCESS.format(EXCESS_TLS), "-j CELLNET-LIMITED"),
        **egress_chains(state),
        **ingress_chains(state, most_tls=MOST_TLS_HERE),
        **_dispatch(state),
    }
    if state.resolver:
        found |= resolver.limited(state)
    tunnels = state.mutual_tls.served
    if tunnels:
        found["CELLNET-EXCESS"] = (EXCESS.format(EXCESS_TUNNELS), "-j CELLNET-LIMITED")
    audits = frozenset[Allow]()
    for workload in state.workloads.values():
        allows = admitted(workload.allows, state.mutual_tls, tls_port=state.tls_port)
        made = rights.of_container(workload.address, allows, tunnels=tunnels)
        found.update(made)
        if len(made) > 1:  # an audit has a chain of its own; each turn asks for all containers
            audits |= rights.audits(workload.allows)
    if audits:
        found[rights.AUDIT] = (audited(), "-j ACCEPT")
    watched = {each.group for each in audits}
    for group, tags in state.groups.items():
        found.update(rights.of_group(group, tags))
        if group in watched:
            found.update(rights.of_group(group, tags, audit=True))
    return found


def _input(state: HostState) -> Iterator[str]:
    """To the host itself."""
    if state.tunnel:
        yield f"{arriving(state.tunnel)} -j ACCEPT"  # a peer's: mangle has seen to that
        yield f"{tunnelled(state.tunnel)} -j DROP"  # the kernel listens on every address
    yield f"-i {CONTAINERS} -g CELLNET-HOST"
    if state.resolver:
        yield from resolver.strangers(state.resolver)
    if state.tunnel:
        yield f"-i {TUNNEL_LINK} {ESTABLISHED} -m mark ! --mark {OPENER} -j ACCEPT"  # answers to the cell's own connections
        yield f"-i {TUNNEL_LINK} {ERROR} -j ACCEPT"
        yield f"-i {TUNNEL_LINK} -j CELLNET-REJECT"  # an answer all the same: by it a peer sees that the tunnel works


def _host(state: HostState) -> Iterator[str]:
    """From a container to the host."""
    if state.resolver:
        yield from resolver.datagrams(state.resolver)
    yield f"{ESTABLISHED} -j ACCEPT"  # answers to the cell's own connections
    yield f"{ERROR} -j ACCEPT"
    if state.resolver:
        yield from resolver.calls(state.resolver)
    yield f"{DATAGRAMS} -j CELLNET-LIMITED"
    for service in sorted(state.host_services):
        yield f"-p {service.protocol} -m {service.protocol} --dport {service.port} -j ACCEPT"
    yield "-j CELLNET-REJECT"


def _output(state: HostState) -> Iterator[str]:
    """From the host itself."""
    if state.tunnel:
        yield f"{tunnelled(state.tunnel)} -m owner --uid-owner {USERS} -j DROP"  # only the kernel itself sends any
        yield f"-s {state.tunnel.address}/32 {tunnelled(state.tunnel)} -j ACCEPT"
        # what the host itself opens is from no app: with a tag it would pass as one
        yield f"-o {TUNNEL_LINK} -m conntrack --ctstate NEW -m mark ! --mark 0x0/{TAG_MASK:#x} -j CELLNET-REJECT"
        yield f"-o {TUNNEL_LINK} -j ACCEPT"  # as the next, for hosts whose own policy is DROP
    yield f"-o {CONTAINERS} -j ACCEPT"


def _forward(state: HostState) -> Iterator[str]:
    """From or to containers."""
    if state.tunnel:
        # guests of other engines: masqueraded to this cell's address, they would be a peer to the others. Answers too: a
        # peer's guest, behind its address, may call a published port from the tunnel's
        yield f"{tunnelled(state.tunnel)} -m set --match-set {VTEPS_SET} dst -j DROP"
    yield f"-i {CONTAINERS} {ESTABLISHED} -j ACCEPT"  # the fast path
    if state.tunnel:
        yield f"-i {TUNNEL_LINK} -o {CONTAINERS} {NO_ANSWER} -g CELLNET-NEW"
    yield f"-o {CONTAINERS} {ESTABLISHED} -j ACCEPT"
    yield f"-i {CONTAINERS} -g CELLNET-NEW"
    yield f"-o {CONTAINERS} -g CELLNET-NEW"
    if state.tunnel:
        yield f"-i {TUNNEL_LINK} -j CELLNET-REJECT"  # for a container that has gone, or with this cell as a router
        yield f"-o {TUNNEL_LINK} -j DROP"  # from outside into the overlay
    yield f"-d {state.overlay} -j CELLNET-REJECT"  # no such container: not out again by the default route


def _new(state: HostState) -> Iterator[str]:
    """What belongs to no connection, from or to a container."""
    yield "-m conntrack --ctstate INVALID -g CELLNET-INVALID"
    yield f"{ERROR} -g CELLNET-ERRORS"
    yield f"{NOT_A_SYN} -j {RESET}"  # what a revoke has cut: the end that sends first is reset
    yield f"-i {CONTAINERS} {DATAGRAMS} -j CELLNET-LIMITED"
    yield f"-i {CONTAINERS} {ECHOES} -j CELLNET-LIMITED"
    yield f"-i {CONTAINERS} -o {CONTAINERS} -g CELLNET-TO"
    if state.tunnel:
        yield f"-i {TUNNEL_LINK} -o {CONTAINERS} -g CELLNET-TO"
    yield f"-i {CONTAINERS} {CALLS} -j CELLNET-LIMITED"
    if state.tunnel:
        # the destination's cell judges; but a first packet may carry data already, which is not to be read on the way there
        ports = beyond_the_cell(state)
        for tcp in ("-p tcp",) if ports is None else map(port_match, ports):
            yield f"-i {CONTAINERS} -o {TUNNEL_LINK} {tcp} -j ACCEPT"
        yield f"-i {CONTAINERS} -o {TUNNEL_LINK} -p udp -j ACCEPT"
        yield f"-i {CONTAINERS} -o {TUNNEL_LINK} -p icmp {ECHO} -j ACCEPT"
        yield f"-i {CONTAINERS} -o {TUNNEL_LINK} -j CELLNET-REJECT"  # as it would: no policy speaks of other protocols
    yield f"-i {CONTAINERS} -g CELLNET-EGRESS"
    yield "-m conntrack --ctstate DNAT -g CELLNET-INGRESS"  # a published port, from outside: containers were judged above
    yield "-j CELLNET-REJECT"  # routed straight in


def _errors(state: HostState) -> Iterator[str]:
    """ICMP errors about flows."""
    yield f"-i {CONTAINERS} -j ACCEPT"  # about its own flows only: raw has seen to that
    if state.tunnel:
        yield f"-i {TUNNEL_LINK} {NO_ANSWER} -j CELLNET-REJECT"  # an error quotes what its sender likes
        yield f"-i {TUNNEL_LINK} -j ACCEPT"  # about their own flows only: the peer's cell has seen to that
    # from elsewhere only about masqueraded and published flows: no other is seen out there
    yield "-m conntrack --ctstate SNAT -j ACCEPT"
    yield "-m conntrack --ctstate DNAT -j ACCEPT"
    yield "-j CELLNET-REJECT"


def _dispatch(state: HostState) -> dict[str, Iterable[str]]:
    """To a container's chain in two levels of 16, so that the way is at most 32 rules among 256 containers."""
    blocks = tuple(by_block(state.subnet, state.workloads))
    to_blocks = (f"-d {block} -g CELLNET-TO-{number:x}" for number, (block, _) in enumerate(blocks))
    return {
        "CELLNET-TO": (*_envoys_limits(state), *to_blocks, "-j CELLNET-REJECT"),
        **{
            f"CELLNET-TO-{number:x}": (*map(_to_container, addresses), "-j CELLNET-REJECT")
            for number, (_, addresses) in enumerate(blocks)
        },
    }


def _envoys_limits(state: HostState) -> Iterator[str]:
    """What one source may have of the Envoy that all containers share."""
    if state.mutual_tls.served:
        yield f"{HANDSHAKES} -j CELLNET-LIMITED"
        yield f"{crowded(INBOUND_PORT, MOST_TUNNELS_HERE)} -j CELLNET-EXCESS"
    yield f"{crowded(state.tls_port, MOST_TLS_HERE)} -j CELLNET-EXCESS-TLS"


@lru_cache(maxsize=CELLFUL)
def _to_container(address: IPv4Address) -> str:
    return f"-d {address}/32 -g {rights.container_chain(address)}"
