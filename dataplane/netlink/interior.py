"""A container's end of its link, set up from inside its namespace: address, gateway without ARP, and Envoy's way back.

Runs in a thread that entered the namespace (`host.namespace.run_in`). Whoever is root in there may undo any of it;
that harms only the container itself, since nothing on the host relies on it.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.netlink import lookup
from dataplane.tables import GATEWAY, ORIGINAL_SOURCE_MARK, Interior
from host import sysctl
from host.errors import HostRefused
from host.namespace import run_in

LINK_SCOPE, HOST_SCOPE, ONLINK = 253, 254, 4
RULE_PRIORITY = 100
OUR_RULE = {"table": ORIGINAL_SOURCE_MARK, "fwmark": ORIGINAL_SOURCE_MARK, "priority": RULE_PRIORITY}
OUR_ROUTE = {"dst": "0.0.0.0/0", "type": "local", "scope": HOST_SCOPE, "oif": 1, "table": ORIGINAL_SOURCE_MARK}
# without these the answers to a connection that Envoy makes with the caller's address would leave for the caller
BACK_TO_ENVOY = {"net/ipv4/tcp_fwmark_accept": "1", "net/ipv4/fwmark_reflect": "1"}
EXISTS, ABSENT = 17, (2, 3, 19, 22, 97)


def program(address: IPv4Address, interior: Interior) -> None:
    """Set up one container's end; what is right already stays. Raises HostRefused."""
    try:
        run_in(interior.pin, lambda: _program(address, interior))
    except (OSError, NetlinkError) as error:
        if isinstance(error, HostRefused):
            raise
        raise HostRefused(
            f"cannot set up {interior.interface} in {interior.pin}: {error}", hint="is it still there?"
        ) from error


def _program(address: IPv4Address, interior: Interior) -> None:
    with IPRoute() as route:
        index = _index(interior)
        route.link("set", index=1, state="up")
        route.link("set", index=index, mtu=interior.mtu, address=interior.mac, state="up")
        _keep(lambda: route.addr("add", index=index, address=str(address), prefixlen=32))
        route.neigh("replace", dst=str(GATEWAY), lladdr=interior.gateway_mac, ifindex=index, state=lookup.PERMANENT)
        route.route("replace", dst=f"{GATEWAY}/32", oif=index, scope=LINK_SCOPE)
        route.route("replace", dst="default", gateway=str(GATEWAY), oif=index, flags=ONLINK)
        if interior.original_source:
            _keep(lambda: route.rule("add", **OUR_RULE))
            route.route("replace", **OUR_ROUTE)
            sysctl.write(BACK_TO_ENVOY)


def read(address: IPv4Address, interior: Interior) -> Interior | None:
    """What the namespace has of `interior`: the same value if all of it is there, else None."""
    try:
        return run_in(interior.pin, lambda: _read(address, interior))
    except (OSError, NetlinkError):
        return None


def _read(address: IPv4Address, interior: Interior) -> Interior | None:
    link = lookup.link(interior.interface)
    if link is None or not link.up or (link.mac, link.mtu) != (interior.mac, interior.mtu):
        return None
    with IPRoute() as route:
        right = (
            lookup.is_local(route, address)
            and lookup.default_route(route) == (str(GATEWAY), link.index)
            and lookup.permanent_neighbour(route, GATEWAY, index=link.index) == interior.gateway_mac
        )
        if not right or (interior.original_source and not _back_to_envoy(route)):
            return None
    return interior


def _back_to_envoy(route: IPRoute) -> bool:
    found = lookup.is_local(route, lookup.ANYWHERE, mark=ORIGINAL_SOURCE_MARK)
    return found and sysctl.read(BACK_TO_ENVOY) == BACK_TO_ENVOY


def clear() -> None:
    """Take out of the calling thread's namespace what the removal of the link leaves there, and nothing of anybody else's.

    Our rule is the first thing written and the last removed: where it is missing nothing of ours is left.
    """
    with IPRoute() as route:
        if _keep(lambda: route.rule("add", **OUR_RULE)):
            route.rule("del", **OUR_RULE)  # it was not there; asking so takes no list of all rules
            return
        sysctl.write(dict.fromkeys(BACK_TO_ENVOY, "0"))
        _skip_absent(lambda: route.route("del", **OUR_ROUTE))
        _skip_absent(lambda: route.rule("del", **OUR_RULE))


def _index(interior: Interior) -> int:
    try:
        return socket.if_nametoindex(interior.interface)
    except OSError as error:
        what = f"{interior.interface} is missing in {interior.pin}"
        raise HostRefused(what, hint="did the container remove it?") from error


def _keep(change: Callable[[], object]) -> bool:
    """Make a change that may be there already; whether it was made now."""
    try:
        change()
    except NetlinkError as error:
        if error.code != EXISTS:
            raise
        return False
    return True


def _skip_absent(change: Callable[[], object]) -> None:
    try:
        change()
    except NetlinkError as error:
        if error.code not in ABSENT:
            raise
