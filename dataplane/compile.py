"""HostState in, kernel tables out: every entry that this cell's links, routes and rules should have. Pure."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from dataplane.firewall import ruleset
from dataplane.firewall.bpf import part_mark
from dataplane.state import INBOUND_PORT, HostState, OutboundListener, Workload
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


def compile_tables(state: HostState) -> Tables:
    """The tables of a cell that is as `state` says."""
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
        interiors={workload.address: _interior(workload, state) for workload in workloads},
        neighbours={host.neighbour: container_mac(host.veth.address) for host in hosts}
        | {peer.neighbour: peer.mac for peer in peers.values()},
        routes={host.destination: host.route for host in hosts} | {subnet: peer.route for subnet, peer in peers.items()},
        vteps=vtep,
        addresses={} if state.resolver is None else {state.resolver.address: LOOPBACK_LINK},
        fdb={peer.mac: (underlay,) for peer, underlay in zip(peers.values(), underlays, strict=True)},
        senders=dict(zip(underlays, (int(peer.mark) for peer in peers.values()), strict=True)),
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


def _interior(workload: Workload, state: HostState) -> Interior:
    return Interior(
        pin=workload.pin,
        interface=workload.interface,
        mac=container_mac(workload.address),
        gateway_mac=host_mac(workload.address),
        mtu=state.mtu,
        original_source=bool(workload.listeners),
        redirect=_redirect(workload, state),
    )


def _redirect(workload: Workload, state: HostState) -> Redirect | None:
    """Without tunnels none. While they are served it stays, with all exempt where none should begin: those that live would end
    with it. So it is where Envoy cannot take a container's calls, as long as plain ones pass.
    """
    mutual = state.mutual_tls
    if not mutual.served:
        return None
    taken = not mutual.plain or any(isinstance(each, OutboundListener) for each in workload.listeners)
    return Redirect(
        overlay=state.overlay,
        direct_ports=tuple(sorted({INBOUND_PORT, state.tls_port})),
        exempt=_exempt(mutual.exempt if mutual.redirected and taken else frozenset({state.overlay}), state.subnet),
        only_tunnels=not mutual.plain,
    )


@lru_cache(maxsize=2)  # one value for all containers, which is compared with itself
def _exempt(networks: frozenset[IPv4Network], subnet: IPv4Network) -> tuple[IPv4Network, ...]:
    """The cell itself has the first address of its part, and no Envoy there."""
    return tuple(sorted({*networks, IPv4Network(subnet.network_address)}))
