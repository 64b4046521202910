"""How fast a container may send and receive: token buckets on the host's side, where its root does not reach.

What goes in is held up by the host's end of its link. What comes out has passed that end already when it is seen there, so
a filter leads it over a device of its own (kind IFB) with the same bucket, after which it arrives as if nothing had been: rules
see it come from the container's link. Policing would need no device, but drops batches of segments (GSO) as a whole, and some
kernels lack it.
"""

import errno
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from dataplane.netlink import links
from dataplane.netlink.links import Links, index_of
from dataplane.netlink.rtnetlink import ABSENT, NEW, NUMBER, PUT, change
from dataplane.tables import host_interface, shaper_interface
from host.errors import HostRefused, refused_as
from host.netlink.messages import attribute, attributes, contents, nested
from host.netlink.socket import NetlinkSocket

# linux/rtnetlink.h, pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWTFILTER, RTM_GETTFILTER = 36, 37, 38, 44, 46
TC = struct.Struct("=BxxxiIII")  # family, index, handle, parent, info; attributes follow
ROOT, INGRESS, OF_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
TCA_KIND, TCA_OPTIONS, TCA_STATS2, TCA_STATS_QUEUE = 1, 2, 7, 3
TBF_PARAMETERS, TBF_BURST = 1, 6
RATE = struct.Struct("=BBHhHI")  # cell, link layer, overhead, alignment, least size of a packet; bytes a second
BUCKET = struct.Struct("=III")  # most bytes that wait; time for a burst; (of the peak rate)
PARAMETERS = 2 * RATE.size + BUCKET.size
ETHERNET: Final = 1  # so that the kernel works with the rate itself, and wants no table of times
QUEUE = struct.Struct("=IIIII")  # bytes and packets that wait, dropped, sent again, held up
EVERYTHING, FIRST = 0x0300, 1 << 16  # ETH_P_ALL in network order; the place among filters
U32_SELECTOR, U32_ACTIONS, TERMINAL = 5, 7, 1
SELECTOR = struct.Struct("=BBBxHHhhI")  # flags, shift, keys, offsets …
KEY = struct.Struct("=IIii")  # mask, value, place
ACT_KIND, ACT_OPTIONS, MIRRED_PARAMETERS = 1, 2, 2
MIRRED = struct.Struct("=IIiiiiI")  # index, -, what becomes of the packet, -, -, how, to which link
STOLEN, REDIRECTED = 4, 1

LEAST_BYTES: Final = 1 << 17  # of a burst and of what waits: two batches of segments, which are 64 KiB at most
BURST, WAIT = 0.002, 0.05  # seconds at full rate
TICK: Final = 64e-9  # seconds, of the kernel's time for a burst
HINT: Final = "the kernel needs the modules ifb, sch_tbf, sch_ingress, cls_u32 and act_mirred"


class _Bucket(NamedTuple):
    """Bytes a second, in a burst, and that wait."""

    rate: int
    burst: int
    waiting: int

    @classmethod
    def of(cls, bits: int) -> "_Bucket":
        rate = bits // 8
        return cls(rate, max(LEAST_BYTES, int(rate * BURST)), max(LEAST_BYTES, int(rate * WAIT)))


class Held(NamedTuple):
    """Packets that were dropped because a container had more than it may: on the way in, and on the way out."""

    received: int
    sent: int


class _Discipline(NamedTuple):
    kind: str
    options: bytes
    dropped: int


def read(kernel: NetlinkSocket, found: Links, wanted: Mapping[IPv4Address, int]) -> dict[IPv4Address, int]:
    """The rates that are in force; 0 where something of one is there and not all as it should be. Raises HostRefused."""
    if not wanted and not found.shapers:
        return {}
    roots, entries = _disciplines(kernel)
    indexes = {name: index for index, name in found.names.items()}
    rates = {}
    for address in {*wanted, *found.shapers}:
        end, shaper = indexes.get(host_interface(address), 0), found.shapers.get(address)
        inward = _rate(roots.get(end))
        if shaper is None and not inward:
            continue
        is_led = shaper is not None and shaper.up and end in entries and _leads(kernel, end) == shaper.index
        outward = _rate(roots.get(shaper.index)) if shaper is not None and is_led else 0
        rates[address] = inward if inward == outward else 0
    return rates


def held(kernel: NetlinkSocket, found: Links) -> dict[IPv4Address, Held]:
    """What each container with a rate has lost by it since it has been there. Raises HostRefused."""
    if not found.shapers:
        return {}
    roots, _ = _disciplines(kernel)
    indexes = {name: index for index, name in found.names.items()}
    empty = _Discipline("", b"", 0)
    return {
        address: Held(roots.get(indexes.get(host_interface(address), 0), empty).dropped, roots.get(shaper.index, empty).dropped)
        for address, shaper in found.shapers.items()
    }


def put(kernel: NetlinkSocket, address: IPv4Address, bits: int) -> None:
    """Have one container send and receive no faster, whatever is there. Raises HostRefused."""
    name, bucket = shaper_interface(address), _Bucket.of(bits)
    with refused_as(f"cannot limit the rate of {host_interface(address)}", hint=HINT):
        end, shaper = index_of(host_interface(address)), links.look_up(kernel, name=name)
        if shaper is not None and shaper.kind != "ifb":
            raise HostRefused(f"a link {name} is not cellnet's", hint=f"ip link delete {name}, or rename it")
        if shaper is None:
            links.create_plain(kernel, name, kind="ifb")
        over = index_of(name)
        links.configure(kernel, over, up=True)
        for index in (end, over):
            change(kernel, RTM_NEWQDISC, _message(index, ROOT, kind="tbf", options=_bucket(bucket)), flags=PUT)
        _let_go(kernel, end, INGRESS, handle=OF_INGRESS)  # with whatever filters it has
        change(kernel, RTM_NEWQDISC, _message(end, INGRESS, kind="ingress", handle=OF_INGRESS), flags=NEW)
        change(kernel, RTM_NEWTFILTER, _leading(end, over), flags=NEW)


def drop(kernel: NetlinkSocket, address: IPv4Address) -> None:
    """Take the limits off one container, whose link may have gone. Raises HostRefused."""
    links.delete(kernel, shaper_interface(address))
    with suppress(HostRefused):
        end = index_of(host_interface(address))
        _let_go(kernel, end, INGRESS, handle=OF_INGRESS)
        _let_go(kernel, end, ROOT)


def _let_go(kernel: NetlinkSocket, index: int, parent: int, *, handle: int = 0) -> None:
    try:
        change(kernel, RTM_DELQDISC, TC.pack(0, index, handle, parent, 0))
    except OSError as error:
        if error.errno not in (*ABSENT, errno.EINVAL):  # there is none
            raise


def _disciplines(kernel: NetlinkSocket) -> tuple[dict[int, _Discipline], set[int]]:
    """Those at the roots of all links, by index, and the links that look at what arrives."""
    roots, entries = {}, set[int]()
    for body in kernel.dump(RTM_GETQDISC, TC.pack(0, 0, 0, 0, 0), what="queueing disciplines"):
        _, index, _, parent, _ = TC.unpack_from(body)
        found = contents(body, start=TC.size)
        kind = found.get(TCA_KIND, b"").rstrip(b"\0").decode(errors="replace")
        if parent == ROOT:
            queue = contents(found.get(TCA_STATS2, b"")).get(TCA_STATS_QUEUE, bytes(QUEUE.size))
            roots[index] = _Discipline(kind, found.get(TCA_OPTIONS, b""), QUEUE.unpack_from(queue)[2])
        elif parent == INGRESS and kind == "ingress":
            entries.add(index)
    return roots, entries


def _rate(found: _Discipline | None) -> int:
    """Bits a second of a bucket that is as we make them; else 0."""
    parameters = b"" if found is None or found.kind != "tbf" else contents(found.options).get(TBF_PARAMETERS, b"")
    if len(parameters) < PARAMETERS:
        return 0
    *_, rate = RATE.unpack_from(parameters)
    waiting, time, _ = BUCKET.unpack_from(parameters, 2 * RATE.size)
    wanted = _Bucket.of(8 * rate)
    is_ours = waiting == wanted.waiting and abs(time * TICK * rate - wanted.burst) <= wanted.burst / 100
    return 8 * rate if is_ours else 0


def _leads(kernel: NetlinkSocket, index: int) -> int:
    """The link that all that arrives on another is led over; 0 if there is none, or more than that."""
    bodies = kernel.dump(RTM_GETTFILTER, TC.pack(0, index, 0, OF_INGRESS, 0), what="filters")
    found = [each for body in bodies for each in _actions(contents(body, start=TC.size).get(TCA_OPTIONS, b""))]
    return found[0] if len(found) == 1 else 0


def _actions(options: bytes) -> Iterator[int]:
    for kind, begin, end in attributes(options):
        if kind == U32_ACTIONS:
            for _, first, last in attributes(options[begin:end]):
                yield _redirection(contents(options[begin:end][first:last]))


def _redirection(action: Mapping[int, bytes]) -> int:
    parameters = contents(action.get(ACT_OPTIONS, b"")).get(MIRRED_PARAMETERS, b"")
    if action.get(ACT_KIND, b"").rstrip(b"\0") != b"mirred" or len(parameters) < MIRRED.size:
        return 0
    _, _, becomes, _, _, how, to = MIRRED.unpack_from(parameters)
    return to if (becomes, how) == (STOLEN, REDIRECTED) else 0


def _message(index: int, parent: int, *, kind: str, handle: int = 0, info: int = 0, options: bytes = b"") -> bytes:
    named = attribute(TCA_KIND, kind.encode() + b"\0")
    return TC.pack(0, index, handle, parent, info) + named + (nested(TCA_OPTIONS, options) if options else b"")


def _bucket(bucket: _Bucket) -> bytes:
    rate, no_peak = RATE.pack(0, ETHERNET, 0, 0, 0, bucket.rate), bytes(RATE.size)
    parameters = attribute(TBF_PARAMETERS, rate + no_peak + BUCKET.pack(bucket.waiting, 0, 0))
    return parameters + attribute(TBF_BURST, NUMBER.pack(bucket.burst))


def _leading(index: int, to: int) -> bytes:
    """All that arrives, over another link; a key that fits every packet."""
    selector = attribute(U32_SELECTOR, SELECTOR.pack(TERMINAL, 0, 1, 0, 0, 0, 0, 0) + KEY.pack(0, 0, 0, 0))
    redirected = nested(ACT_OPTIONS, attribute(MIRRED_PARAMETERS, MIRRED.pack(0, 0, STOLEN, 0, 0, REDIRECTED, to)))
    action = nested(1, attribute(ACT_KIND, b"mirred\0"), redirected)
    return _message(index, OF_INGRESS, kind="u32", info=FIRST | EVERYTHING, options=selector + nested(U32_ACTIONS, action))
