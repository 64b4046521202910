"""HostState in, kernel tables out: every entry that this cell's links, routes and rules should have. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from dataplane.firewall import egress, ingress, limits, ruleset
from dataplane.firewall.bpf import part_mark
from dataplane.state import INBOUND_PORT, HostState, MutualTls, OutboundListener, Workload
from dataplane.tables import (
    CELLFUL,
    LOOPBACK_LINK,
    TUNNEL_LINK,
    Interior,
    KernelRoute,
    NeighbourKey,
    Redirect,
    Tables,
    Veth,
    Vtep,
    container_mac,
    host_interface,
    host_mac,
    tunnel_mac,
)


@dataclass(frozen=True, slots=True)
class ContainerEntries:
    """The host's side of one container: all of it follows from address and MTU."""

    link: str
    veth: Veth
    neighbour: NeighbourKey
    destination: IPv4Network
    route: KernelRoute
    sysctls: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PeerEntries:
    """The way to one other cell: all but its address in the underlay follows from its part of the overlay."""

    mac: str
    neighbour: NeighbourKey
    route: KernelRoute
    mark: IPv4Address


def compile_tables(state: HostState, *, before: Tables | None = None) -> Tables:
    """The tables of a cell that is as `state` says. Interiors that are as they were `before` are the same objects."""
    workloads = state.workloads.values()
    hosts = [_host(address, state.mtu, ipv6=state.ipv6) for address in state.workloads]
    vtep = _vtep(state)
    peers = {subnet: _peer(subnet) for subnet in state.peers} if vtep else {}
    underlays = state.peers.values() if vtep else ()
    own = dict(_sysctls(TUNNEL_LINK, ipv6=state.ipv6)) if vtep else {}
    chains = ruleset.chains(state)
    return Tables(
        sysctls={"net/ipv4/ip_forward": "1"} | own | {key: value for host in hosts for key, value in host.sysctls},
        tags={workload.address: workload.tag for workload in workloads},
        chains=chains,
        jumps=ruleset.jumps(chains),
        veths={host.link: host.veth for host in hosts},
        links_up={host.link: True for host in hosts} | dict.fromkeys(vtep, True),
        interiors=_interiors(state, {} if before is None else before.interiors),
        neighbours={host.neighbour: container_mac(host.veth.address) for host in hosts}
        | {peer.neighbour: peer.mac for peer in peers.values()},
        routes={host.destination: host.route for host in hosts} | {subnet: peer.route for subnet, peer in peers.items()},
        vteps=vtep,
        addresses={} if state.resolver is None else {state.resolver.address: LOOPBACK_LINK},
        fdb={peer.mac: (underlay,) for peer, underlay in zip(peers.values(), underlays, strict=True)},
        senders=dict(zip(underlays, (int(peer.mark) for peer in peers.values()), strict=True)),
        outside={**egress.egress_sets(state), **ingress.ingress_sets(state)},
        limited=limits.limit_sets(state),
        rates={address: workload.limits.rate for address, workload in state.workloads.items() if workload.limits.rate},
        names=egress.egress_names(state),
    )


def _vtep(state: HostState) -> dict[str, Vtep]:
    """Empty without a tunnel. It has the subnet's first address: peers believe this cell's ICMP errors from there."""
    if state.tunnel is None:
        return {}
    address = state.subnet.network_address
    made = Vtep(
        addresses=(IPv4Interface(address),),
        mac=tunnel_mac(address),
        mtu=state.mtu,
        vni=state.tunnel.vni,
        port=state.tunnel.port,
        local=state.tunnel.address,
    )
    return {TUNNEL_LINK: made}


@lru_cache(maxsize=CELLFUL)
def _peer(subnet: IPv4Network) -> PeerEntries:
    gateway = subnet.network_address
    return PeerEntries(
        tunnel_mac(gateway), NeighbourKey(TUNNEL_LINK, gateway), KernelRoute(TUNNEL_LINK, gateway), part_mark(subnet)
    )


@lru_cache(maxsize=CELLFUL)
def _host(address: IPv4Address, mtu: int, *, ipv6: bool) -> ContainerEntries:
    link = host_interface(address)
    return ContainerEntries(
        link=link,
        veth=Veth(address=address, mac=host_mac(address), mtu=mtu),
        neighbour=NeighbourKey(link, address),
        destination=IPv4Network(address),
        route=KernelRoute(link),
        sysctls=_sysctls(link, ipv6=ipv6),
    )


def _sysctls(link: str, *, ipv6: bool) -> tuple[tuple[str, str], ...]:
    settings = ((f"net/ipv4/conf/{link}/rp_filter", "1"), (f"net/ipv4/conf/{link}/forwarding", "1"))
    # else the host's [::] services answer on the link-local address
    return ((f"net/ipv6/conf/{link}/disable_ipv6", "1"), *settings) if ipv6 else settings


def _interiors(state: HostState, known: Mapping[IPv4Address, Interior]) -> dict[IPv4Address, Interior]:
    """Seen by identity to be as they were: to compare 250 of them takes as long as all the rest of a turn's comparisons."""
    with_envoy, without = (_redirect(state, takes_calls=takes) for takes in (True, False))
    found = {}
    for address, workload in state.workloads.items():
        redirect = with_envoy if any(isinstance(each, OutboundListener) for each in workload.listeners) else without
        interior = known.get(address)
        stands = interior is not None and _stands(interior, workload, mtu=state.mtu, redirect=redirect)
        found[address] = interior if interior is not None and stands else _interior(workload, state.mtu, redirect)
    return found


def _stands(interior: Interior, workload: Workload, *, mtu: int, redirect: Redirect | None) -> bool:
    """Whether it is what `_interior` would make, of the container at the same address."""
    if interior.pin is not workload.pin or interior.redirect is not redirect:
        return False
    wanted = (workload.interface, mtu, bool(workload.listeners))
    return (interior.interface, interior.mtu, interior.original_source) == wanted


def _interior(workload: Workload, mtu: int, redirect: Redirect | None) -> Interior:
    return Interior(
        pin=workload.pin,
        interface=workload.interface,
        mac=container_mac(workload.address),
        gateway_mac=host_mac(workload.address),
        mtu=mtu,
        original_source=bool(workload.listeners),
        redirect=redirect,
    )


def _redirect(state: HostState, *, takes_calls: bool) -> Redirect | None:
    return _redirect_of(state.mutual_tls, state.overlay, state.subnet, state.tls_port, takes_calls=takes_calls)


@lru_cache(maxsize=4)  # of all containers, the same object at each turn
def _redirect_of(
    mutual: MutualTls, overlay: IPv4Network, subnet: IPv4Network, tls_port: int, *, takes_calls: bool
) -> Redirect | None:
    """Without tunnels none. While they are served it stays, with all exempt where none should begin: those that live would end
    with it. So it is where Envoy cannot take a container's calls, as long as plain ones pass.
    """
    if not mutual.served:
        return None
    is_taken = not mutual.plain or takes_calls
    exempt = mutual.exempt if mutual.redirected and is_taken else frozenset({overlay})
    return Redirect(
        overlay=overlay,
        direct_ports=tuple(sorted({INBOUND_PORT, tls_port})),
        exempt=tuple(sorted({*exempt, IPv4Network(subnet.network_address)})),  # the cell's own address, where no Envoy is
        only_tunnels=not mutual.plain,
    )
