"""A container's end of its link, set up from inside its namespace: address, gateway without ARP, and Envoy's way back.

Runs in a thread that entered the namespace (`host.namespace.run_in`). Root in the container may undo any of it; that harms only
the container itself, since nothing on the host relies on it. Nothing here lists a table of the namespace: its root may put a
million routes there, and reading 100,000 takes 20 s.
"""

import errno
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from dataplane.netlink import addresses, links, neighbours, routes
from dataplane.netlink.links import LOOPBACK
from dataplane.netlink.routes import RT_SCOPE_HOST, RTM_DELROUTE, RTM_NEWROUTE, RTN_LOCAL
from dataplane.netlink.rtnetlink import NEW, NUMBER, PUT, change
from dataplane.tables import GATEWAY, ORIGINAL_SOURCE_MARK, Interior, NeighbourKey
from host import sysctl
from host.errors import HostRefused, refused_as
from host.namespace import run_in
from host.netlink.messages import NETLINK_ROUTE, attribute
from host.netlink.socket import NetlinkSocket, connect

RTM_NEWRULE, RTM_DELRULE = 32, 33
RULE = struct.Struct("=BBBBBxxBI")  # family, lengths of destination and source, service, table, action, flags
FRA_PRIORITY, FRA_FWMARK, FR_ACT_TO_TBL = 6, 10, 1
RTPROT_STATIC = 4

DEFAULT = IPv4Network("0.0.0.0/0")
OUR_RULE = (
    RULE.pack(socket.AF_INET, 0, 0, 0, ORIGINAL_SOURCE_MARK, FR_ACT_TO_TBL, 0)
    + attribute(FRA_PRIORITY, NUMBER.pack(100))
    + attribute(FRA_FWMARK, NUMBER.pack(ORIGINAL_SOURCE_MARK))
)
OUR_ROUTE = routes.message(
    DEFAULT, index=LOOPBACK, protocol=RTPROT_STATIC, table=ORIGINAL_SOURCE_MARK, kind=RTN_LOCAL, scope=RT_SCOPE_HOST
)
# without these the answers to a connection that Envoy makes with the caller's address would leave for the caller
BACK_TO_ENVOY = {"net/ipv4/tcp_fwmark_accept": "1", "net/ipv4/fwmark_reflect": "1"}
ABSENT = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EINVAL, errno.EAFNOSUPPORT)


def program(address: IPv4Address, interior: Interior) -> None:
    """Set up one container's end; what is right already stays. Raises HostRefused."""
    with refused_as(f"cannot set up {interior.interface} in {interior.pin}", hint="is it still there?"):
        run_in(interior.pin, lambda: _program(address, interior))


def _program(address: IPv4Address, interior: Interior) -> None:
    with connect(NETLINK_ROUTE) as kernel:
        index = _index(interior)
        links.configure(kernel, LOOPBACK, up=True)
        links.configure(kernel, index, mac=interior.mac, mtu=interior.mtu, up=True)
        with suppress(FileExistsError):
            addresses.add(kernel, index, IPv4Interface(address))
        neighbours.put(kernel, {NeighbourKey(interior.interface, GATEWAY): interior.gateway_mac})
        _put_route(kernel, routes.message(IPv4Network(GATEWAY), index=index, protocol=RTPROT_STATIC))
        _put_route(kernel, routes.message(DEFAULT, index=index, gateway=GATEWAY, protocol=RTPROT_STATIC))
        if interior.original_source:
            with suppress(FileExistsError):
                change(kernel, RTM_NEWRULE, OUR_RULE, flags=NEW)
            _put_route(kernel, OUR_ROUTE)
            sysctl.write(BACK_TO_ENVOY)


def _put_route(kernel: NetlinkSocket, route: bytes) -> None:
    change(kernel, RTM_NEWROUTE, route, flags=PUT)


def read(address: IPv4Address, interior: Interior) -> Interior | None:
    """What the namespace has of `interior`: the same value if all of it is there, else None."""
    with suppress(OSError):
        if run_in(interior.pin, lambda: _is_there(address, interior)):
            return interior
    return None


def _is_there(address: IPv4Address, interior: Interior) -> bool:
    with connect(NETLINK_ROUTE) as kernel:
        link = links.look_up(kernel, name=interior.interface)
        if link is None or not link.up or (link.mac, link.mtu) != (interior.mac, interior.mtu):
            return False
        out = routes.next_hop(kernel)
        return (
            _is_local(kernel, address)
            and out is not None
            and (out.index, out.gateway) == (link.index, GATEWAY)
            and neighbours.look_up(kernel, GATEWAY, index=link.index) == interior.gateway_mac
            and (not interior.original_source or _leads_back_to_envoy(kernel))
        )


def _leads_back_to_envoy(kernel: NetlinkSocket) -> bool:
    return _is_local(kernel, routes.ANYWHERE, mark=ORIGINAL_SOURCE_MARK) and sysctl.read(BACK_TO_ENVOY) == BACK_TO_ENVOY


def _is_local(kernel: NetlinkSocket, address: IPv4Address, *, mark: int = 0) -> bool:
    found = routes.next_hop(kernel, address, mark=mark)
    return found is not None and found.is_local


def clear() -> None:
    """Take out of the calling thread's namespace what the removal of the link leaves there of ours.

    Our rule is the first thing written and the last removed: where it is missing nothing of ours is left.
    """
    with connect(NETLINK_ROUTE) as kernel:
        try:
            change(kernel, RTM_NEWRULE, OUR_RULE, flags=NEW)
        except FileExistsError:
            sysctl.write(dict.fromkeys(BACK_TO_ENVOY, "0"))
            for kind, body in ((RTM_DELROUTE, OUR_ROUTE), (RTM_DELRULE, OUR_RULE)):
                _drop(kernel, kind, body)
        else:
            change(kernel, RTM_DELRULE, OUR_RULE)  # it was not there; asking so takes no list of all rules


def _drop(kernel: NetlinkSocket, kind: int, body: bytes) -> None:
    try:
        change(kernel, kind, body)
    except OSError as error:
        if error.errno not in ABSENT:
            raise


def _index(interior: Interior) -> int:
    try:
        return socket.if_nametoindex(interior.interface)
    except OSError as error:
        what = f"{interior.interface} is missing in {interior.pin}"
        raise HostRefused(what, hint="did the container remove it?") from error
