"""HostState in, kernel tables out: every entry that this cell's links, routes and rules should have. Pure."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from dataplane.firewall import rules
from dataplane.state import HostState, Workload
from dataplane.tables import CELLFUL, Interior, NeighbourKey, Tables, Veth, container_mac, host_interface, host_mac


@dataclass(frozen=True, slots=True)
class Host:
    """The host's side of one container: all of it follows from address and MTU."""

    link: str
    veth: Veth
    neighbour: NeighbourKey
    route: IPv4Network
    sysctls: tuple[tuple[str, str], ...]


def compile_tables(state: HostState) -> Tables:
    """The tables of a cell that is as `state` says."""
    workloads = state.workloads.values()
    hosts = [_host(address, state.mtu) for address in state.workloads]
    return Tables(
        sysctls={"net/ipv4/ip_forward": "1"} | {key: value for host in hosts for key, value in host.sysctls},
        tags={workload.address: workload.tag for workload in workloads},
        chains=rules.chains(state),
        jumps=dict.fromkeys(rules.JUMPS, (0,)),
        veths={host.link: host.veth for host in hosts},
        links_up={host.link: True for host in hosts},
        interiors={workload.address: _interior(workload, mtu=state.mtu) for workload in workloads},
        neighbours={host.neighbour: container_mac(host.veth.address) for host in hosts},
        routes={host.route: host.link for host in hosts},
    )


@lru_cache(maxsize=CELLFUL)
def _host(address: IPv4Address, mtu: int) -> Host:
    link = host_interface(address)
    return Host(
        link=link,
        veth=Veth(address=address, mac=host_mac(address), mtu=mtu),
        neighbour=NeighbourKey(link, address),
        route=IPv4Network(address),
        sysctls=_sysctls(link),
    )


def _sysctls(link: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"net/ipv6/conf/{link}/disable_ipv6", "1"),  # else the host's [::] services answer on the link-local address
        (f"net/ipv4/conf/{link}/rp_filter", "1"),
        (f"net/ipv4/conf/{link}/forwarding", "1"),
    )


def _interior(workload: Workload, *, mtu: int) -> Interior:
    return Interior(
        pin=workload.pin,
        interface=workload.interface,
        mac=container_mac(workload.address),
        gateway_mac=host_mac(workload.address),
        mtu=mtu,
        original_source=workload.tls is not None,
    )
