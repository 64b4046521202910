"""A container's end of its link, set up from inside its namespace: address, gateway without ARP, Envoy's ways.

Runs in a thread that enters the namespace (`host/visits.py`). Root in the container may undo any of it; that harms only the
container itself, since nothing on the host relies on it. Nothing here lists a table of the namespace: its root may put a
million routes there, and reading 100,000 takes 20 s.
"""

import errno
import socket
import struct
import time
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from dataplane.netlink import addresses, links, neighbours, redirect, routes
from dataplane.netlink.links import LOOPBACK
from dataplane.netlink.routes import RT_SCOPE_HOST, RTM_DELROUTE, RTM_NEWROUTE, RTN_LOCAL
from dataplane.netlink.rtnetlink import NEW, NUMBER, PUT, change
from dataplane.tables import EITHER_MARK, GATEWAY, ORIGINAL_SOURCE_MARK, TUNNEL_MARK, Interior, NeighbourKey
from host import sysctl
from host.errors import HostRefused, refused_as
from host.netlink.messages import NETLINK_ROUTE, attribute
from host.netlink.socket import NetlinkSocket, connect
from host.visits import Visits

RTM_NEWRULE, RTM_DELRULE = 32, 33
RULE = struct.Struct("=BBBBBxxBI")  # family, lengths of destination and source, service, table, action, flags
FRA_PRIORITY, FRA_FWMARK, FRA_FWMASK, FR_ACT_TO_TBL = 6, 10, 16, 1
RTPROT_STATIC = 4

DEFAULT = IPv4Network("0.0.0.0/0")
ENVOY_MARKS = (TUNNEL_MARK, ORIGINAL_SOURCE_MARK)
TABLE, PLACE = ORIGINAL_SOURCE_MARK, 100
TO_TABLE = RULE.pack(socket.AF_INET, 0, 0, 0, TABLE, FR_ACT_TO_TBL, 0) + attribute(FRA_PRIORITY, NUMBER.pack(PLACE))
OUR_RULE = TO_TABLE + attribute(FRA_FWMARK, NUMBER.pack(TUNNEL_MARK)) + attribute(FRA_FWMASK, NUMBER.pack(EITHER_MARK))
FORMER_RULE = TO_TABLE + attribute(FRA_FWMARK, NUMBER.pack(ORIGINAL_SOURCE_MARK))  # of agents that knew one mark
OUR_ROUTE = routes.message(DEFAULT, index=LOOPBACK, protocol=RTPROT_STATIC, table=TABLE, kind=RTN_LOCAL, scope=RT_SCOPE_HOST)
FOR_ENVOY = {
    # without these the answers to a connection that Envoy makes with the caller's address would leave for the caller
    "net/ipv4/tcp_fwmark_accept": "1",
    "net/ipv4/fwmark_reflect": "1",
    # callers that an Envoy which hands over has not accepted yet go to the one beside it, instead of being reset
    "net/ipv4/tcp_migrate_req": "1",
    # a caller's packets whose port NAT has changed would come to the socket of Envoy's that has that port: until Linux 6.7 the
    # kernel chooses an open connection before it
    "net/ipv4/tcp_early_demux": "0",
}
WITHOUT_ENVOY = {each: "1" if value == "0" else "0" for each, value in FOR_ENVOY.items()}  # as the kernel has them at first
ABSENT = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EINVAL, errno.EAFNOSUPPORT)
VISITS = Visits(within=1.0)  # for what takes 2 ms
SENDING_TRIES, SENDING_PAUSE = 100, 0.002  # seconds


def program(address: IPv4Address, interior: Interior) -> None:
    """Set up one container's end; what is right already stays. Raises HostRefused."""
    with refused_as(f"cannot set up {interior.interface} in {interior.pin}", hint="is it still there?"):
        VISITS.call(interior.pin, partial(_program, address, interior))


def _program(address: IPv4Address, interior: Interior) -> None:
    with connect(NETLINK_ROUTE) as kernel:
        link = links.look_up(kernel, name=interior.interface)
        if link is None:
            raise HostRefused(f"{interior.interface} is missing in {interior.pin}", hint="did the container remove it?")
        links.configure(kernel, LOOPBACK, up=True)
        if _needs_way_back(interior):
            _lead_back_to_envoy(kernel)
        redirect.put(interior.redirect)  # before anything can leave that should not
        # the MAC only where it differs: setting it makes the kernel forget the link's neighbours
        links.configure(kernel, link.index, mac=None if link.mac == interior.mac else interior.mac, mtu=interior.mtu, up=True)
        with suppress(FileExistsError):
            addresses.add(kernel, link.index, IPv4Interface(address))
        neighbours.put(kernel, {NeighbourKey(interior.interface, GATEWAY): interior.gateway_mac})
        _put_route(kernel, routes.message(IPv4Network(GATEWAY), index=link.index, protocol=RTPROT_STATIC))
        _put_route(kernel, routes.message(DEFAULT, index=link.index, gateway=GATEWAY, protocol=RTPROT_STATIC))


def await_sending(interior: Interior) -> None:
    """Return when the container's end sends, a moment after both ends are up: until then the kernel drops its packets unseen.

    From Linux 6.8 on the kernel sees to it when it is asked; before, some other thread of it does, which a busy machine delays.
    What does not come in time, as its root may see to, is not waited for: a container loses a packet then. Raises HostRefused.
    """
    with refused_as(f"cannot look at {interior.interface} in {interior.pin}", hint="is it still there?"):
        VISITS.call(interior.pin, partial(_await_sending, interior))


def _await_sending(interior: Interior) -> None:
    with connect(NETLINK_ROUTE) as kernel:
        link = links.look_up(kernel, name=interior.interface)
        for _ in range(SENDING_TRIES):
            if link is None or links.is_sending(kernel, link.index):
                return
            time.sleep(SENDING_PAUSE)


def _lead_back_to_envoy(kernel: NetlinkSocket) -> None:
    with suppress(FileExistsError):
        change(kernel, RTM_NEWRULE, OUR_RULE, flags=NEW)
    _drop(kernel, RTM_DELRULE, FORMER_RULE)
    _put_route(kernel, OUR_ROUTE)
    sysctl.write(FOR_ENVOY)


def _needs_way_back(interior: Interior) -> bool:
    return interior.original_source or interior.redirect is not None


def _put_route(kernel: NetlinkSocket, route: bytes) -> None:
    change(kernel, RTM_NEWROUTE, route, flags=PUT)


def read(address: IPv4Address, interior: Interior, *, known: Interior | None = None) -> Interior | None:
    """What the namespace has of `interior`: the same value if all of it is there, else None; `known` if there is no answer."""
    try:
        return interior if VISITS.call(interior.pin, partial(_is_there, address, interior)) else None
    except TimeoutError:
        return known
    except OSError:
        return None


def obstacle(address: IPv4Address, interior: Interior) -> str:
    """Why nothing gets in or out there, in words that follow the interface's name; "" where nothing is in the way.

    Raises OSError, TimeoutError among it, where there is no answer.
    """
    return VISITS.call(interior.pin, partial(_obstacle, address, interior))


def _obstacle(address: IPv4Address, interior: Interior) -> str:
    with connect(NETLINK_ROUTE) as kernel:
        link = links.look_up(kernel, name=interior.interface)
        if link is None:
            return "is missing"
        if not link.up:
            return "is down"
        if not _is_local(kernel, address):
            return f"has no address {address}"
        out = routes.next_hop(kernel)
        return "" if out is not None and (out.index, out.gateway) == (link.index, GATEWAY) else "has no default route"


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
            and (not _needs_way_back(interior) or _leads_back_to_envoy(kernel))
            and redirect.stands(interior.redirect)
        )


def _leads_back_to_envoy(kernel: NetlinkSocket) -> bool:
    leads = all(_is_local(kernel, routes.ANYWHERE, mark=mark) for mark in ENVOY_MARKS)
    return leads and sysctl.read(FOR_ENVOY) == FOR_ENVOY


def _is_local(kernel: NetlinkSocket, address: IPv4Address, *, mark: int = 0) -> bool:
    found = routes.next_hop(kernel, address, mark=mark)
    return found is not None and found.is_local


def clear(pin: Path) -> None:
    """Take out of the namespace what the removal of the link leaves there of ours; what takes long goes on by itself.

    Our rule is the first thing written and the last removed: where it is missing nothing of ours is left. Raises OSError.
    """
    with suppress(TimeoutError):
        VISITS.call(pin, _clear)


def _clear() -> None:
    with connect(NETLINK_ROUTE) as kernel:
        if not any(_has_rule(kernel, each) for each in (OUR_RULE, FORMER_RULE)):
            return
        with suppress(HostRefused):  # a table that root inside has made its own stays with it
            redirect.remove()
        sysctl.write(WITHOUT_ENVOY)
        for kind, body in ((RTM_DELROUTE, OUR_ROUTE), (RTM_DELRULE, FORMER_RULE), (RTM_DELRULE, OUR_RULE)):
            _drop(kernel, kind, body)


def _has_rule(kernel: NetlinkSocket, rule: bytes) -> bool:
    """Asked by making it, and unmade where it was not there: that takes no list of all rules."""
    try:
        change(kernel, RTM_NEWRULE, rule, flags=NEW)
    except FileExistsError:
        return True
    change(kernel, RTM_DELRULE, rule)
    return False


def _drop(kernel: NetlinkSocket, kind: int, body: bytes) -> None:
    try:
        change(kernel, kind, body)
    except OSError as error:
        if error.errno not in ABSENT:
            raise
