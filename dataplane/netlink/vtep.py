"""Device `cellnet0`: this cell's end of the overlay, VXLAN that carries marks and learns nothing. Ours by its name and kind.

It has no lower link, so it can be made before the underlay is there, and lives on when that changes.
"""

import errno
import socket
from functools import partial
from ipaddress import IPv4Address

from dataplane.netlink import addresses, links
from dataplane.netlink.links import Link, index_of
from dataplane.netlink.rtnetlink import NUMBER
from dataplane.tables import TUNNEL_LINK, Vtep
from host.errors import refused_as
from host.netlink.messages import attribute, contents
from host.netlink.socket import NetlinkSocket

KIND = "vxlan"
# linux/if_link.h: IFLA_VXLAN_ID, _GROUP, _LOCAL, _LINK, _LEARNING, _PORT, _GROUP6, _GBP, _COLLECT_METADATA
VNI, GROUP, LOCAL, LOWER, LEARNING, PORT, GROUP6, GBP, EXTERNAL = 1, 2, 4, 3, 7, 15, 16, 23, 25
KINDS = {GROUP: "group", GROUP6: "group", LOWER: "link", GBP: "gbp"}  # there, or not
SWITCHES = {LEARNING: "learning", EXTERNAL: "external"}  # on, or off
ANYWHERE = bytes(4)


def read(kernel: NetlinkSocket, link: Link | None) -> Vtep | None:
    """Ours, of the link of that name; None if that is no VXLAN. Raises HostRefused."""
    if link is None or link.kind != KIND:
        return None
    about = contents(link.details)
    local = about.get(LOCAL, ANYWHERE)
    there = {word for kind, word in KINDS.items() if kind in about and (about[kind].strip(b"\0") or kind == GBP)}
    on = {word for kind, word in SWITCHES.items() if about.get(kind, b"").strip(b"\0")}
    return Vtep(
        addresses=tuple(sorted(each.local for each in addresses.read(kernel) if each.index == link.index)),
        mac=link.mac,
        mtu=link.mtu,
        vni=NUMBER.unpack(about[VNI])[0] if VNI in about else 0,
        port=int.from_bytes(about.get(PORT, b""), "big"),
        local=IPv4Address(local) if local != ANYWHERE else None,
        features=frozenset(there | on),
    )


def create(kernel: NetlinkSocket, vtep: Vtep) -> None:
    """Make it, down. Raises HostRefused."""
    details = (
        attribute(VNI, NUMBER.pack(vtep.vni)),
        attribute(PORT, vtep.port.to_bytes(2, "big")),
        attribute(LOCAL, ANYWHERE if vtep.local is None else vtep.local.packed),
        attribute(LEARNING, b"\0"),
        attribute(GBP, b""),
    )
    with refused_as(f"cannot make {TUNNEL_LINK}", hint=partial(_hint, vtep=vtep)):
        links.create(kernel, TUNNEL_LINK, mac=vtep.mac, mtu=vtep.mtu, kind=KIND, details=b"".join(details))
        addresses.add(kernel, index_of(TUNNEL_LINK), vtep.addresses[0])


def _hint(error: OSError, *, vtep: Vtep) -> str:
    if error.errno != errno.EEXIST:
        return "the kernel needs the vxlan module; see its log"
    try:
        socket.if_nametoindex(TUNNEL_LINK)
    except OSError:
        return f"another VXLAN device has vni {vtep.vni} and port {vtep.port}: change overlay.vni on all cells"
    return f"a link of that name is not cellnet's: ip link delete {TUNNEL_LINK}, or rename it"


def change(kernel: NetlinkSocket, vtep: Vtep, *, old: Vtep) -> None:
    """Set what differs on a device that is there, without a cut. Raises HostRefused."""
    index = index_of(TUNNEL_LINK)
    with refused_as(f"cannot set up {TUNNEL_LINK}", hint="see `ip address` and the kernel's log"):
        links.configure(kernel, index, mac=None if vtep.mac == old.mac else vtep.mac, mtu=vtep.mtu)
        for address in vtep.addresses:
            if address not in old.addresses:  # before another goes: with its last address a link loses all its routes
                addresses.add(kernel, index, address)
        for address in old.addresses:
            if address not in vtep.addresses:
                addresses.delete(kernel, index, address)


def set_up(kernel: NetlinkSocket) -> None:
    """Bring it up: only now its port is taken. Raises HostRefused."""

    def hint(error: OSError) -> str:
        return "another program has its UDP port: see `ss -lnu`" if error.errno == errno.EADDRINUSE else "see the kernel's log"

    with refused_as(f"cannot bring {TUNNEL_LINK} up", hint=hint):
        links.configure(kernel, index_of(TUNNEL_LINK), up=True)
