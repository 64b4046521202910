"""Device `cellnet0`: this cell's end of the overlay, VXLAN that carries marks and learns nothing. Ours by its name and kind.

It has no lower link, so it can be made before the underlay is there, and lives on when that changes.
"""

import socket
import struct
from ipaddress import IPv4Address, IPv4Interface

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.netlink.links import INFO_KIND, NUMBER, Link, index_of
from dataplane.tables import TUNNEL_LINK, Vtep
from host.errors import HostRefused
from host.netlink.messages import attributes
from host.netlink.socket import NetlinkSocket

EXISTS, IN_USE, NO_DEVICE = 17, 98, 19
GET_ADDRESSES = 22
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index; attributes follow
LOCAL_ADDRESS = 2
INFO_DATA = 2
VNI, GROUP, LOCAL, LOWER, LEARNING, PORT, GROUP6, GBP, EXTERNAL = 1, 2, 4, 3, 7, 15, 16, 23, 25
KINDS = {GROUP: "group", GROUP6: "group", LOWER: "link", GBP: "gbp"}  # there, or not
SWITCHES = {LEARNING: "learning", EXTERNAL: "external"}  # on, or off
ANYWHERE = bytes(4)


def read(kernel: NetlinkSocket, link: Link | None) -> Vtep | None:
    """Ours, of the link of that name; None if that is no VXLAN. Raises HostRefused."""
    if link is None:
        return None
    info = link.info
    found = {kind: info[start:end] for kind, start, end in attributes(info)}
    if found.get(INFO_KIND, b"").rstrip(b"\0") != b"vxlan":
        return None
    inner = found.get(INFO_DATA, b"")
    about = {kind: inner[start:end] for kind, start, end in attributes(inner)}
    local = about.get(LOCAL, ANYWHERE)
    there = {word for kind, word in KINDS.items() if kind in about and (about[kind].strip(b"\0") or kind == GBP)}
    on = {word for kind, word in SWITCHES.items() if about.get(kind, b"").strip(b"\0")}
    return Vtep(
        addresses=_addresses(kernel, link.index),
        mac=link.mac,
        mtu=link.mtu,
        vni=NUMBER.unpack(about[VNI])[0] if VNI in about else 0,
        port=int.from_bytes(about.get(PORT, b""), "big"),
        local=IPv4Address(local) if local != ANYWHERE else None,
        features=frozenset(there | on),
    )


def _addresses(kernel: NetlinkSocket, wanted: int) -> tuple[IPv4Interface, ...]:
    found: list[IPv4Interface] = []
    for body in kernel.dump(GET_ADDRESSES, ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0), what="addresses"):
        _, length, _, _, index = ADDRESS.unpack_from(body)
        if index != wanted:
            continue
        found += [IPv4Interface((body[start:end], length)) for kind, start, end in attributes(body, start=ADDRESS.size)
                  if kind == LOCAL_ADDRESS]  # fmt: skip
    return tuple(sorted(found))


def create(route: IPRoute, vtep: Vtep) -> None:
    """Make it, down. Raises HostRefused."""
    try:
        route.link(
            "add", ifname=TUNNEL_LINK, kind="vxlan", address=vtep.mac, mtu=vtep.mtu, vxlan_id=vtep.vni, vxlan_port=vtep.port,
            vxlan_local=str(vtep.local), vxlan_gbp=True, vxlan_learning=0,
        )  # fmt: skip
        route.addr("add", index=index_of(TUNNEL_LINK), address=str(vtep.addresses[0].ip), prefixlen=32)
    except NetlinkError as error:
        raise HostRefused(f"cannot make {TUNNEL_LINK}: {error}", hint=_hint(error, vtep)) from error


def _hint(error: NetlinkError, vtep: Vtep) -> str:
    if error.code != EXISTS:
        return "the kernel needs the vxlan module; see its log"
    try:
        socket.if_nametoindex(TUNNEL_LINK)
    except OSError:
        return f"another VXLAN device has vni {vtep.vni} and port {vtep.port}: change overlay.vni on all cells"
    return f"a link of that name is not cellnet's: ip link delete {TUNNEL_LINK}, or rename it"


def change(route: IPRoute, vtep: Vtep, *, old: Vtep) -> None:
    """Set what differs on a device that is there, without a cut. Raises HostRefused."""
    index = index_of(TUNNEL_LINK)
    try:
        if vtep.mtu != old.mtu:
            route.link("set", index=index, mtu=vtep.mtu)
        if vtep.mac != old.mac:
            route.link("set", index=index, address=vtep.mac)
        for address in vtep.addresses:
            if address not in old.addresses:  # before another goes: with its last address a link loses all its routes
                route.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
        for address in old.addresses:
            if address not in vtep.addresses:
                route.addr("del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
    except NetlinkError as error:
        raise HostRefused(f"cannot set up {TUNNEL_LINK}: {error}", hint="see `ip address` and the kernel's log") from error


def delete(route: IPRoute) -> None:
    """Remove it, with its routes, neighbours and forwarding entries; one that has gone is fine. Raises HostRefused."""
    try:
        route.link("del", index=socket.if_nametoindex(TUNNEL_LINK))
    except NetlinkError as error:
        if error.code != NO_DEVICE:
            raise HostRefused(f"cannot remove {TUNNEL_LINK}: {error}", hint="see the kernel's log") from error
    except OSError:
        return


def set_up(route: IPRoute) -> None:
    """Bring it up: only now its port is taken. Raises HostRefused."""
    try:
        route.link("set", index=index_of(TUNNEL_LINK), state="up")
    except NetlinkError as error:
        hint = "somebody else has its UDP port: see `ss -lnu`" if error.code == IN_USE else "see the kernel's log"
        raise HostRefused(f"cannot bring {TUNNEL_LINK} up: {error}", hint=hint) from error
