"""This cell's part of the overlay in the kernel: the tunnel's end and the ways to its peers, with the order of effects.

What the kernel refuses here must not keep containers of this cell from being reached, so it is reported apart.
"""

from ipaddress import IPv4Network

from dataplane.netlink import fdb, links, neighbours, routes, vtep
from dataplane.plan import Plan
from dataplane.tables import TUNNEL_LINK, Tables, is_of_links
from host import sysctl
from host.netlink.socket import NetlinkSocket


def withdraw(plan: Plan, kernel: NetlinkSocket) -> None:
    """Remove what is no longer wanted, ways before what they need. Raises HostRefused."""
    if plan.vteps.drop:
        links.delete(kernel, TUNNEL_LINK)  # its routes, neighbours and forwarding entries go along
        return
    routes.drop(kernel, [to for to, way in plan.routes.drop.items() if way.link == TUNNEL_LINK])
    neighbours.drop(kernel, [key for key in plan.neighbours.drop if key.device == TUNNEL_LINK])
    fdb.drop(kernel, plan.fdb.drop)


def extend(plan: Plan, kernel: NetlinkSocket) -> None:
    """Make what is wanted. Raises HostRefused."""
    for wanted in plan.vteps.add.values():
        vtep.create(kernel, wanted)
    for name, wanted in plan.vteps.change.items():
        if wanted.is_same_device(old := plan.vteps.old[name]):
            vtep.change(kernel, wanted, old=old)
        else:
            links.delete(kernel, TUNNEL_LINK)
            vtep.create(kernel, wanted)
    sysctl.write(
        {key: value for key, value in plan.sysctls.put.items() if is_of_links(key, {TUNNEL_LINK})}
    )  # before it is up: no IPv6
    if TUNNEL_LINK in plan.links_up.put:
        vtep.set_up(kernel)
    # a route leads to a neighbour, and that one into the tunnel: what is led to comes first
    fdb.put(kernel, plan.fdb.put, old=plan.fdb.old)
    neighbours.put(kernel, {key: mac for key, mac in plan.neighbours.put.items() if key.device == TUNNEL_LINK})
    routes.put(kernel, {to: way for to, way in plan.routes.put.items() if way.link == TUNNEL_LINK})


def peer_networks(tables: Tables) -> frozenset[IPv4Network]:
    """The peers' parts of the overlay."""
    return frozenset(to for to, way in tables.routes.items() if way.link == TUNNEL_LINK)
