"""What the host's own network is to the cell's: the underlay, addresses in use, name servers, the rules of other programs."""

import asyncio
from collections.abc import Collection, Iterator
from typing import Final

from agent.cells.address_clashes import AddressClashes
from agent.cells.underlay import UnderlayMonitor
from agent.config.config import Config
from agent.daemon.firewall import chosen_backend, passage_of
from agent.daemon.saved_rules import SavedRules
from agent.dns.process import what_keeps_dns
from agent.dns.upstreams import chosen, configured
from agent.doctor.checks import Finding, of_parts
from agent.model.status import Problem
from agent.wording import listed
from dataplane.firewall.foreign import harmful_chains
from dataplane.netlink.underlay import VXLAN_OVERHEAD, Clash, Underlay, clashes, find_underlay
from host import ethtool, sysctl

BROKEN_OFFLOADS: Final = frozenset({"vmxnet3"})
"""Drivers of network cards that spoil what is inside of VXLAN packets: on vSphere only pings come through."""
OFFLOADS: Final = ("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation")
STRICT: Final = "1"


def underlay(config: Config) -> Finding:
    """Where the cells meet, and whether containers' packets fit into its own."""
    monitor = UnderlayMonitor(lambda: _read(config), overlay=config.overlay, shared=config.store is not None)
    asyncio.run(monitor.refresh())
    found = find_underlay(config.underlay.address, config.underlay.interface)
    if found is None:
        return Finding("none, which a cell by itself can do without", monitor.problems())
    about = f"{found.interface}, {found.address}, MTU {found.mtu}"
    return Finding(about, (*monitor.problems(), *_too_large(config, found)))


async def _read(config: Config) -> Underlay | None:
    return find_underlay(config.underlay.address, config.underlay.interface)


def _too_large(config: Config, found: Underlay) -> Iterator[Problem]:
    most, wanted = found.mtu - VXLAN_OVERHEAD, config.overlay.mtu
    if config.store is not None and wanted is not None and wanted > most:
        what = f"overlay.mtu is {wanted}, and {found.interface} carries {most} at most beside the tunnel's {VXLAN_OVERHEAD}"
        hint = f"set overlay.mtu to {most} or auto, or: ip link set {found.interface} mtu {wanted + VXLAN_OVERHEAD}"
        yield Problem("overlay", f"{what}: large packets to other cells are lost", hint)
    if most < 576:
        what = f"{found.interface} has an MTU of {found.mtu}, which leaves containers {most}"
        yield Problem("overlay", what, f"ip link set {found.interface} mtu 1500")


def offload(config: Config, *, broken: Collection[str] = BROKEN_OFFLOADS) -> Finding:
    """Whether the underlay's card is known to spoil what is inside of tunnels: pings work, and TCP hangs."""
    found = find_underlay(config.underlay.address, config.underlay.interface)
    if found is None or config.store is None:
        return Finding("not used without other cells")
    driver = ethtool.driver(found.interface)
    on = [each for each in OFFLOADS if ethtool.features(found.interface).get(each, False)]
    about = f"{found.interface} is driven by {driver}"
    if driver not in broken or not on:
        return Finding(about)
    what = f"{about}, which is known to spoil TCP inside of tunnels, and has {listed(on)} on"
    switched = " ".join(f"{each} off" for each in on)
    return Finding(about, (Problem("overlay", what, f"ethtool -K {found.interface} {switched}"),))


def return_path(config: Config) -> Finding:
    """Whether the kernel drops what comes from other cells, since its own way to them is another one (strict rp_filter)."""
    found = find_underlay(config.underlay.address, config.underlay.interface)
    default = find_underlay(None, None)
    if found is None or config.store is None:
        return Finding("not used without other cells")
    keys = [f"net/ipv4/conf/{each}/rp_filter" for each in ("all", found.interface)]
    strict = max(sysctl.read(keys).values(), default="0") == STRICT
    if not strict or default is None or default.interface == found.interface:
        return Finding(f"rp_filter of {found.interface} is {'strict' if strict else 'not strict'}")
    what = f"rp_filter is strict on {found.interface}, and what has no route of its own leaves by {default.interface}"
    hint = f"sysctl -w net.ipv4.conf.{found.interface}.rp_filter=2, or route the other cells' network over {found.interface}"
    return Finding("", (Problem("overlay", f"{what}: packets of cells beyond a router are dropped", hint),))


def addresses(config: Config) -> Finding:
    """Whether another program has the overlay's addresses, or the resolver's."""
    network, resolver = config.overlay.network, config.dns.address

    async def read() -> tuple[Clash, ...]:
        return clashes(network, resolver)

    part = AddressClashes(read, overlay=network, resolver=resolver)
    asyncio.run(part.look())
    return of_parts(part, about=f"overlay {network}, resolver {resolver}")


def names(config: Config) -> Finding:
    """Whether the resolver can serve, and which name servers of the outside it cannot ask."""
    choice = chosen(configured(config), overlay=config.overlay.network, resolver=config.dns.address)
    problems = []
    if (error := what_keeps_dns(config)) is not None:
        problems.append(Problem("dns", error.what, error.hint))
    if choice.left_out:
        hint = f"name another in {config.paths.host_resolv_conf}, or as dns.upstreams in agent.yaml; or move overlay.network"
        problems.append(Problem("dns", f"a name server is not asked: {listed(choice.left_out)}", hint))
    return Finding(f"name servers: {listed([str(each.address) for each in choice.asked]) or 'none'}", tuple(problems))


def other_rules(config: Config) -> Finding:
    """Whether the rules of another program refuse what policies allow, and whether a saved file has ours."""
    backend = chosen_backend(config)
    found = harmful_chains(backend, passage_of(config))
    problems = [Problem("firewall", f"{each.where} {each.harm.value}", f"exempt the overlay: {each.remedy}") for each in found]
    return Finding(f"iptables-{backend.value}", (*problems, *SavedRules().problems()))
