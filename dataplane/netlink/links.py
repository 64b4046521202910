"""Veth pairs: made with both MACs and the peer already inside its namespace, down until everything else is in place."""

import os
import socket
import struct
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.tables import LINK_PREFIX, TUNNEL_LINK, Veth, container_mac, host_mac
from host.errors import HostRefused
from host.netlink.messages import attribute, attributes
from host.netlink.socket import NetlinkSocket

EXISTS, NO_DEVICE = 17, 19
GET_LINKS = 18
LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change; attributes follow
NUMBER = struct.Struct("=I")
MAC, NAME, MTU, INFO, EXT_MASK, INFO_KIND = 1, 3, 4, 18, 29, 1
SKIP_STATISTICS = NUMBER.pack(1 << 3)
UP = 1
LEAVING = 0x636E6574  # "cnet": the group of links that are about to be removed, and of nothing else


@dataclass(frozen=True, slots=True)
class Links:
    """Our host ends (veths named `cnet` + 8 hex digits) by name, whether each is up, and their names by index.

    `tunnel` is whatever has the name of the tunnel's end, ours or not, as it was read; it is in none of the others.
    """

    veths: Mapping[str, Veth]
    up: Mapping[str, bool]
    names: Mapping[int, str]
    tunnel: "Link | None" = None


@dataclass(frozen=True, slots=True)
class Link:
    """Any link; `info` is its own description of its kind, undecoded."""

    index: int
    up: bool
    mac: str
    mtu: int
    info: bytes


def read(kernel: NetlinkSocket) -> Links:
    """One dump, decoded by hand: a look reads all links while changes wait for the interpreter. Raises HostRefused."""
    veths: dict[str, Veth] = {}
    up: dict[str, bool] = {}
    names: dict[int, str] = {}
    tunnel: Link | None = None
    for body in kernel.dump(GET_LINKS, LINK.pack(0, 0, 0, 0, 0) + attribute(EXT_MASK, SKIP_STATISTICS), what="links"):
        _, _, index, flags, _ = LINK.unpack_from(body)
        found = {kind: body[start:end] for kind, start, end in attributes(body, start=LINK.size)}
        name = found[NAME].rstrip(b"\0").decode(errors="replace")
        if name == TUNNEL_LINK:
            mac, mtu = found.get(MAC, b"").hex(":"), NUMBER.unpack(found[MTU])[0]
            tunnel = Link(index, bool(flags & UP), mac, mtu, found.get(INFO, b""))
            continue
        address = address_of(name)
        if address is None or not _is_veth(found.get(INFO, b"")):
            continue
        veths[name] = Veth(address=address, mac=found[MAC].hex(":"), mtu=NUMBER.unpack(found[MTU])[0])
        up[name] = bool(flags & UP)
        names[index] = name
    return Links(veths, up, names, tunnel)


def _is_veth(info: bytes) -> bool:
    return any(kind == INFO_KIND and info[start:end].rstrip(b"\0") == b"veth" for kind, start, end in attributes(info))


def index_of(name: str) -> int:
    """A link's index in the calling thread's namespace. Raises HostRefused."""
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise HostRefused(f"link {name} has gone", hint="did somebody remove it?") from error


def address_of(name: str) -> IPv4Address | None:
    """The container address in a link's name, None where the link is not ours."""
    digits = name.removeprefix(LINK_PREFIX)
    if digits == name or len(digits) != 8 or set(digits) - set("0123456789abcdef"):
        return None
    return IPv4Address(int(digits, 16))


def create(route: IPRoute, name: str, veth: Veth, *, pin: Path, peer: str) -> None:
    """Make one pair, both ends down. Raises HostRefused, also where a foreign link has a name of ours."""
    try:
        namespace = os.open(pin, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostRefused(f"cannot open {pin}: {error.strerror}", hint="the container has gone") from error
    try:
        inside = {"ifname": peer, "net_ns_fd": namespace, "address": container_mac(veth.address), "mtu": veth.mtu}
        route.link("add", ifname=name, kind="veth", address=host_mac(veth.address), mtu=veth.mtu, peer=inside)
    except NetlinkError as error:
        raise HostRefused(f"cannot make {name} with {peer} in {pin}: {error}", hint=_hint(error, peer=peer)) from error
    finally:
        os.close(namespace)


def _hint(error: NetlinkError, *, peer: str) -> str:
    return f"is there another {peer} in the namespace?" if error.code == EXISTS else "see the kernel's log"


def change(route: IPRoute, name: str, veth: Veth, *, old: Veth) -> None:
    """Set what differs on a pair that is there. Raises HostRefused."""
    try:
        if veth.mtu != old.mtu:
            route.link("set", index=index_of(name), mtu=veth.mtu)
        if veth.mac != old.mac:  # not otherwise: it makes the kernel forget the link's neighbours
            route.link("set", index=index_of(name), address=veth.mac)
    except NetlinkError as error:
        raise HostRefused(f"cannot set MAC and MTU of {name}: {error}", hint="see `ip link`") from error


def delete_together(route: IPRoute, names: Collection[str]) -> None:
    """Remove several pairs at once: the kernel waits 15 to 20 ms for each removal, or once for all links of a group.

    What cannot be removed like this is left, for `delete` to say why.
    """
    try:
        for name in names:
            with suppress(OSError):  # gone with its namespace
                route.link("set", index=socket.if_nametoindex(name), group=LEAVING)
        route.link("del", group=LEAVING)
    except NetlinkError:
        return


def delete(route: IPRoute, name: str) -> None:
    """Remove a pair; one that has gone with its namespace is fine."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return
    try:
        route.link("del", index=index)
    except NetlinkError as error:
        if error.code != NO_DEVICE:
            raise HostRefused(f"cannot remove {name}: {error}", hint="see the kernel's log") from error


def set_up(route: IPRoute, name: str) -> None:
    """Bring a host end up. Raises HostRefused."""
    try:
        route.link("set", index=index_of(name), state="up")
    except NetlinkError as error:
        raise HostRefused(f"cannot bring {name} up: {error}", hint="did somebody remove it?") from error
