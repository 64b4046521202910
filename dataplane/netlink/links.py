"""Links: read, looked up, and veth pairs made with both MACs and the peer already inside its namespace, down until everything
else is in place.
"""

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from dataplane.netlink.rtnetlink import NEW, NUMBER, change, octets
from dataplane.tables import LINK_PREFIX, SHAPER_PREFIX, TUNNEL_LINK, Veth, container_mac, host_mac
from host.errors import HostRefused, refused_as
from host.netlink.messages import NETLINK_ROUTE, NLM_F_ACK, attribute, contents, nested
from host.netlink.socket import NetlinkSocket, connect

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
LINK = struct.Struct("=BxHiII")  # family, type, index, flags, which flags to change; attributes follow
IFF_UP = 1
NOT_YET = (0, 2, 3)  # states of operation: unknown, down, and what is below is down
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 10, 18
IFLA_OPERSTATE, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 16, 26, 27, 28, 29, 37
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
RTEXT_FILTER_SKIP_STATS = 1 << 3
VETH_INFO_PEER = 1
RTM_GETNSID, NETNSA_NSID, NETNSA_FD, NOT_ASSIGNED = 90, 1, 3, 0xFFFFFFFF
NAMESPACE = bytes(4)  # family; attributes follow

# settings of a link by their place in IFLA_INET_CONF and IFLA_INET6_CONF: a dump has them, where each costs a file in /proc/sys
SETTINGS = (
    ("net/ipv4/conf/{}/forwarding", socket.AF_INET, 1, 0),
    ("net/ipv4/conf/{}/rp_filter", socket.AF_INET, 1, 7),
    ("net/ipv6/conf/{}/disable_ipv6", socket.AF_INET6, 2, 26),
)

LOOPBACK = 1  # index, in every namespace
LEAVING = 0x636E6574  # "cnet": the group of links that are about to be removed, and of nothing else
NO_STATISTICS = attribute(IFLA_EXT_MASK, NUMBER.pack(RTEXT_FILTER_SKIP_STATS))


@dataclass(frozen=True, slots=True)
class Link:
    """Any link. `details` is what its kind says of itself, undecoded."""

    index: int
    name: str
    up: bool
    mac: str
    mtu: int
    kind: str
    details: bytes
    families: bytes

    def settings(self) -> Iterator[tuple[str, str]]:
        """Those of SETTINGS that it has, as `host/sysctl.py` has them."""
        of_families = contents(self.families)
        for name, family, kind, place in SETTINGS:
            values = contents(of_families.get(family, b"")).get(kind, b"")
            if len(values) >= (place + 1) * NUMBER.size:
                yield name.format(self.name), str(NUMBER.unpack_from(values, place * NUMBER.size)[0])


@dataclass(frozen=True, slots=True)
class Links:
    """Our host ends (veths named `cnet` + 8 hex digits) by name, whether each is up, and their names by index.

    `tunnel` is whatever has the name of the tunnel's end, ours or not; of the others only `settings`, sysctls by name, have it.
    `shapers` are by the container's address what has the name of the device that limits it, ours or not.
    """

    veths: Mapping[str, Veth]
    up: Mapping[str, bool]
    names: Mapping[int, str]
    settings: Mapping[str, str]
    tunnel: Link | None = None
    shapers: Mapping[IPv4Address, Link] = field(default_factory=dict)


def read(kernel: NetlinkSocket) -> Links:
    """One dump of all links. Raises HostRefused."""
    veths: dict[str, Veth] = {}
    up: dict[str, bool] = {}
    names: dict[int, str] = {}
    settings: dict[str, str] = {}
    tunnel: Link | None = None
    shapers: dict[IPv4Address, Link] = {}
    for body in kernel.dump(RTM_GETLINK, LINK.pack(0, 0, 0, 0, 0) + NO_STATISTICS, what="links"):
        found = _link(body)
        address = address_of(found.name)
        if found.name == TUNNEL_LINK:
            tunnel = found
            settings.update(found.settings())
        elif address is not None and found.kind == "veth":
            veths[found.name] = Veth(address=address, mac=found.mac, mtu=found.mtu)
            up[found.name] = found.up
            names[found.index] = found.name
            settings.update(found.settings())
        elif (limited := address_of(found.name, prefix=SHAPER_PREFIX)) is not None:
            shapers[limited] = found
    return Links(veths, up, names, settings, tunnel, shapers)


def look_up(kernel: NetlinkSocket, *, name: str = "", index: int = 0) -> Link | None:
    """The link of that name, or of that index; None if it is not there. Takes the time of one link, however many there are."""
    named = attribute(IFLA_IFNAME, name.encode() + b"\0") if name else b""
    (answer,) = kernel.ask(RTM_GETLINK, [LINK.pack(0, 0, index, 0, 0) + named + NO_STATISTICS])
    return None if isinstance(answer, OSError) else _link(answer)


def is_sending(kernel: NetlinkSocket, index: int) -> bool:
    """Whether the kernel has begun to send over a link, or never will as it is: one that is down, or has gone."""
    (answer,) = kernel.ask(RTM_GETLINK, [LINK.pack(0, 0, index, 0, 0) + NO_STATISTICS])
    if isinstance(answer, OSError) or not LINK.unpack_from(answer)[3] & IFF_UP:
        return True
    return contents(answer, start=LINK.size)[IFLA_OPERSTATE][0] not in NOT_YET


def far_ends(names: Iterable[str], candidates: Iterable[Path]) -> dict[str, Path | None]:
    """Of those links that are there: which of the `candidates` is the namespace of the other end, None where none is.

    Raises HostRefused.
    """
    with connect(NETLINK_ROUTE) as kernel:
        numbers = {name: number for name in names if (number := _far_number(kernel, name)) is not None}
        paths = {_number_of(kernel, each): each for each in candidates} if numbers else {}
        paths.pop(NOT_ASSIGNED, None)
    return {name: paths.get(number) for name, number in numbers.items()}


def _far_number(kernel: NetlinkSocket, name: str) -> int | None:
    """What this namespace calls that of a link's other end."""
    (answer,) = kernel.ask(RTM_GETLINK, [LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0")])
    if isinstance(answer, OSError):
        return None
    found = contents(answer, start=LINK.size).get(IFLA_LINK_NETNSID)
    return None if found is None else int(NUMBER.unpack(found)[0])


def _number_of(kernel: NetlinkSocket, namespace: Path) -> int | None:
    """What this namespace calls another one."""
    try:
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        (answer,) = kernel.ask(RTM_GETNSID, [NAMESPACE + attribute(NETNSA_FD, NUMBER.pack(descriptor))])
    finally:
        os.close(descriptor)
    if isinstance(answer, OSError):
        return None
    return int(NUMBER.unpack(contents(answer, start=len(NAMESPACE))[NETNSA_NSID])[0])


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = LINK.unpack_from(body)
    found = contents(body, start=LINK.size)
    info = contents(found.get(IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=found[IFLA_IFNAME].rstrip(b"\0").decode(errors="replace"),
        up=bool(flags & IFF_UP),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=NUMBER.unpack(found[IFLA_MTU])[0],
        kind=info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        details=info.get(IFLA_INFO_DATA, b""),
        families=found.get(IFLA_AF_SPEC, b""),
    )


def index_of(name: str) -> int:
    """A link's index in the calling thread's namespace. Raises HostRefused."""
    with refused_as(f"link {name} has gone", hint="did another program remove it?"):
        return socket.if_nametoindex(name)


def address_of(name: str, *, prefix: str = LINK_PREFIX) -> IPv4Address | None:
    """The container address in a link's name, None where the link is not ours."""
    digits = name.removeprefix(prefix)
    if digits == name or len(digits) != 8 or set(digits) - set("0123456789abcdef"):
        return None
    return IPv4Address(int(digits, 16))


def create_veth(kernel: NetlinkSocket, name: str, veth: Veth, *, pin: Path, peer: str) -> None:
    """Make one pair, both ends down. Raises HostRefused, also where a foreign link has a name of ours."""
    with refused_as(f"cannot open {pin}", hint="the container has gone"):
        namespace = os.open(pin, os.O_RDONLY | os.O_CLOEXEC)
    try:
        far = _description(peer, container_mac(veth.address), veth.mtu) + attribute(IFLA_NET_NS_FD, NUMBER.pack(namespace))
        near = _description(name, host_mac(veth.address), veth.mtu)
        change(kernel, RTM_NEWLINK, near + _kind(b"veth", attribute(VETH_INFO_PEER, far)), flags=NEW)
    except OSError as error:
        hint = f"is there another {peer} in the namespace?" if error.errno == errno.EEXIST else "see the kernel's log"
        raise HostRefused(f"cannot make {name} with {peer} in {pin}: {error.strerror}", hint=hint) from error
    finally:
        os.close(namespace)


def create(kernel: NetlinkSocket, name: str, *, mac: str, mtu: int, kind: str, details: bytes) -> None:
    """Make a link of another kind, down. Raises OSError."""
    change(kernel, RTM_NEWLINK, _description(name, mac, mtu) + _kind(kind.encode(), details), flags=NEW)


def create_plain(kernel: NetlinkSocket, name: str, *, kind: str) -> None:
    """Make a link of a kind that has nothing to be said of it, down. Raises OSError."""
    named = attribute(IFLA_IFNAME, name.encode() + b"\0")
    what = nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind.encode()))
    change(kernel, RTM_NEWLINK, LINK.pack(0, 0, 0, 0, 0) + named + what, flags=NEW)


def _description(name: str, mac: str, mtu: int) -> bytes:
    named = attribute(IFLA_IFNAME, name.encode() + b"\0")
    return LINK.pack(0, 0, 0, 0, 0) + named + attribute(IFLA_ADDRESS, octets(mac)) + attribute(IFLA_MTU, NUMBER.pack(mtu))


def _kind(kind: bytes, details: bytes) -> bytes:
    return nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind), nested(IFLA_INFO_DATA, details))


def configure(kernel: NetlinkSocket, index: int, *, mac: str | None = None, mtu: int | None = None, up: bool = False) -> None:
    """Set MAC and MTU of a link, as far as they are given, and then bring it up, if that is wanted. Raises OSError."""
    wanted = b"" if mac is None else attribute(IFLA_ADDRESS, octets(mac))
    wanted += b"" if mtu is None else attribute(IFLA_MTU, NUMBER.pack(mtu))
    flags = IFF_UP if up else 0
    change(kernel, RTM_NEWLINK, LINK.pack(0, 0, index, flags, flags) + wanted)


def change_veth(kernel: NetlinkSocket, name: str, veth: Veth, *, old: Veth) -> None:
    """Set what differs on a pair that is there. Raises HostRefused."""
    with refused_as(f"cannot set MAC and MTU of {name}", hint="see `ip link`"):
        # the MAC only where it differs: setting it makes the kernel forget the link's neighbours
        configure(kernel, index_of(name), mac=None if veth.mac == old.mac else veth.mac, mtu=veth.mtu)


def delete_together(kernel: NetlinkSocket, names: Collection[str]) -> None:
    """Remove several pairs at once: the kernel waits 15 to 20 ms for each removal, or once for all links of a group.

    A link that cannot be removed like this stays, and `delete` reports why.
    """
    group, indexes = attribute(IFLA_GROUP, NUMBER.pack(LEAVING)), []
    for name in names:
        with suppress(OSError):  # gone with its namespace
            indexes.append(socket.if_nametoindex(name))
    kernel.ask(RTM_NEWLINK, [LINK.pack(0, 0, index, 0, 0) + group for index in indexes], flags=NLM_F_ACK)
    with suppress(OSError):
        change(kernel, RTM_DELLINK, LINK.pack(0, 0, 0, 0, 0) + group)


def delete(kernel: NetlinkSocket, name: str) -> None:
    """Remove a link; one that has gone is fine. Raises HostRefused."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return
    try:
        change(kernel, RTM_DELLINK, LINK.pack(0, 0, index, 0, 0))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise HostRefused(f"cannot remove {name}: {error.strerror}", hint="see the kernel's log") from error


def set_up(kernel: NetlinkSocket, name: str) -> None:
    """Bring a host end up. Raises HostRefused."""
    with refused_as(f"cannot bring {name} up", hint="did another program remove it?"):
        configure(kernel, index_of(name), up=True)
