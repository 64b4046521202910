"""This cell's part of the overlay in the kernel: the tunnel's end and the ways to its peers, with the order of effects.

Nothing of it may stop containers of this cell from being reached: what the kernel refuses here is told apart.
"""

from ipaddress import IPv4Network

from pyroute2 import IPRoute

from dataplane.netlink import peers, vtep
from dataplane.plan import Plan
from dataplane.tables import TUNNEL_LINK, Tables
from host import sysctl
from host.netlink.socket import NetlinkSocket


def withdraw(plan: Plan, *, route: IPRoute, kernel: NetlinkSocket) -> None:
    """What is no longer wanted, ways before what they need. Raises HostRefused."""
    if plan.vteps.drop:
        vtep.delete(route)  # all of it goes along
        return
    peers.drop_routes(kernel, [to for to, way in plan.routes.drop.items() if way.link == TUNNEL_LINK])
    peers.drop_neighbours(kernel, [key for key in plan.neighbours.drop if key.device == TUNNEL_LINK])
    peers.drop_fdb(kernel, plan.fdb.drop)


def extend(plan: Plan, *, route: IPRoute, kernel: NetlinkSocket) -> None:
    """What is wanted. Raises HostRefused."""
    for wanted in plan.vteps.add.values():
        vtep.create(route, wanted)
    for name, wanted in plan.vteps.change.items():
        if wanted.is_same_device(old := plan.vteps.old[name]):
            vtep.change(route, wanted, old=old)
        else:
            vtep.delete(route)
            vtep.create(route, wanted)
    sysctl.write({key: value for key, value in plan.sysctls.put.items() if is_ours(key)})  # before it is up: no IPv6
    if TUNNEL_LINK in plan.links_up.put:
        vtep.set_up(route)
    # a route leads to a neighbour, and that one into the tunnel: what is led to comes first
    peers.put_fdb(kernel, plan.fdb.put, old=plan.fdb.old)
    peers.put_neighbours(kernel, {key: mac for key, mac in plan.neighbours.put.items() if key.device == TUNNEL_LINK})
    peers.put_routes(kernel, {to: way for to, way in plan.routes.put.items() if way.link == TUNNEL_LINK})


def others(tables: Tables) -> frozenset[IPv4Network]:
    """The peers' parts of the overlay."""
    return frozenset(to for to, way in tables.routes.items() if way.link == TUNNEL_LINK)


def is_ours(setting: str) -> bool:
    """Whether a sysctl is the tunnel's."""
    return f"/conf/{TUNNEL_LINK}/" in setting
