"""The flows that this host's conntrack knows: listed as values, and deleted one by one.

The socket must have been opened in the host's namespace: containers have tables of their own, which do not decide what the
host lets through. Keep it open: closing it waits, as with every netfilter socket, until no processor can see any longer
the rules that were replaced just before, up to 20 ms. A flow carries its original tuple in the kernel's own bytes and goes back
with them and its id when it is deleted, so that neither another zone's flow nor a later one of the same addresses is hit.
"""

import socket
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from dataplane.flows.sockdiag import Ends
from host.errors import HostRefused
from host.netlink import socket as netlink
from host.netlink.messages import (
    ATTRIBUTE,
    NETLINK_NETFILTER,
    NFGENMSG_IPV4,
    NLA_F_NESTED,
    NLM_F_ACK,
    attribute,
    attributes,
    contents,
    nested,
)
from host.netlink.socket import NetlinkSocket

CT_NEW, CT_GET, CT_DELETE = 0x100, 0x101, 0x102
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 3, 4, 12, 18, 25
CTA_TIMEOUT, CTA_MARK = 7, 8
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST = 1, 2
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT, CTA_PROTO_ICMP_TYPE = 1, 2, 3, 5
CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 1, 1, 4
LAST_ACK, TIME_WAIT, CLOSE = 6, 7, 8  # of enum tcp_conntrack: both ends have closed, or one was reset
CLOSING = b"\x04\x04"  # IP_CT_TCP_FLAG_CLOSE_INIT: the flags to set, and the mask of those to change
CTA_FILTER_REPLY_FLAGS, BY_SOURCE = 2, 1

PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_ICMP: "icmp"}


@dataclass(frozen=True, slots=True)
class Flow:
    """One entry: source and destination of the first packet, and those of the replies.

    `reply_source` is what really answers: the container behind a published port, whatever address was dialled. `protocol` is
    the IP protocol's number; ports are 0 where it has none. Of ICMP the type of what either end sends stands for its port: what
    answers an echo is 0. `key` is the original tuple as the kernel wrote it. `mark` is what
    a rule has written there: of a flow from another cell the tag of the container that opened it. `tcp_state` is conntrack's
    number for how far a TCP connection is. In `seconds_left` it is forgotten, unless a packet of it passes.
    """

    protocol: int
    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    reply_source: IPv4Address
    reply_source_port: int
    reply_destination: IPv4Address
    reply_destination_port: int
    zone: int
    id: int
    status: int
    key: bytes = field(repr=False)
    mark: int = 0
    tcp_state: int = 0
    seconds_left: int = field(default=0, compare=False)

    @property
    def is_over(self) -> bool:
        """Whether this connection has ended by itself: for some time its entry takes late packets."""
        return self.tcp_state in (LAST_ACK, TIME_WAIT, CLOSE)

    def __str__(self) -> str:
        """`tcp 10.255.1.2:40000 -> 10.255.1.3:8080`, for the log."""
        word = PROTOCOLS.get(self.protocol, str(self.protocol))
        return f"{word} {self.source}:{self.source_port} -> {self.reply_source}:{self.reply_source_port}"


Names = dict[bytes, IPv4Address]


def connect() -> NetlinkSocket:
    """A socket for the table of the namespace that the calling thread is in."""
    return netlink.connect(NETLINK_NETFILTER)


def flows(
    link: NetlinkSocket, *, to: Collection[IPv4Address] | None = None, of: Collection[IPv4Address] | None = None
) -> tuple[Flow, ...]:
    """The IPv4 flows of the namespace: all, or those that one of the addresses `to` answers and those from or to one of `of`.

    Raises HostRefused.
    """
    if to is None and of is None:
        return tuple(_dump(link))
    replying, either = frozenset(to or ()) | frozenset(of or ()), frozenset(of or ())
    if not replying:
        return ()
    # one walk for all: a walk through an empty table takes as long as one that finds something
    if len(replying) > 1:
        found = _dump(link)
    else:
        (address,) = replying
        found = _dump(link, about=address.packed) if either else _dump(link, _answered_by(address))
    return tuple(flow for flow in found if flow.reply_source in replying or flow.source in either)


def answered(link: NetlinkSocket, connections: Sequence[Ends]) -> tuple[Flow, ...]:
    """The TCP flows outside any zone that `local` answers, as far as there are any: a look-up each, no walk through the table.

    What `local` itself has opened is left out. Raises HostRefused.
    """
    answers = link.ask(CT_GET, [NFGENMSG_IPV4 + _reply(ends) for ends in connections])
    names: Names = {}
    found = []
    for ends, answer in zip(connections, answers, strict=True):
        if isinstance(answer, OSError):
            if not netlink.vanished(answer):
                raise HostRefused(f"cannot look up a connection: {answer.strerror}", hint="cellnet needs root") from answer
        # a tuple names its entry whichever way round it is
        elif (flow := decode(answer, names)).reply_source == ends.local and flow.reply_source_port == ends.local_port:
            found.append(flow)
    return tuple(found)


def _reply(ends: Ends) -> bytes:
    addresses = attribute(CTA_IP_V4_SRC, ends.local.packed) + attribute(CTA_IP_V4_DST, ends.remote.packed)
    ports = struct.pack("!H", ends.local_port), struct.pack("!H", ends.remote_port)
    protocol = attribute(CTA_PROTO_NUM, bytes([socket.IPPROTO_TCP]))
    protocol += attribute(CTA_PROTO_SRC_PORT, ports[0]) + attribute(CTA_PROTO_DST_PORT, ports[1])
    return nested(CTA_TUPLE_ORIG, nested(CTA_TUPLE_IP, addresses), nested(CTA_TUPLE_PROTO, protocol))


def retire(link: NetlinkSocket, flows: Sequence[Flow]) -> None:
    """Have these TCP entries take no later SYN as their own, once their connection is closed.

    Of a connection that the server has reset, conntrack would take the next SYN between the same ports as a part, and call it
    ESTABLISHED: a client that dials again as soon as it is cut would get past all rules, until the entry is deleted.
    Raises ValueError for a flow without a key; HostRefused.
    """
    flags = nested(CTA_PROTOINFO, nested(CTA_PROTOINFO_TCP, attribute(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, CLOSING)))
    _change(link, CT_NEW, [_named(flow) + flags for flow in flows], what="retire")


def delete(link: NetlinkSocket, flows: Sequence[Flow]) -> int:
    """Delete exactly these entries and return how many were still there.

    Raises ValueError for a flow without a key, before anything is deleted, since a deletion that names no flow empties the
    whole table; HostRefused.
    """
    return _change(link, CT_DELETE, [_named(flow) for flow in flows], what="delete")


def _change(link: NetlinkSocket, kind: int, requests: Sequence[bytes], *, what: str) -> int:
    answers = link.ask(kind, requests, flags=NLM_F_ACK)
    refused = [answer for answer in answers if isinstance(answer, OSError) and not netlink.vanished(answer)]
    if refused:
        raise HostRefused(f"cannot {what} {len(refused)} conntrack entries: {refused[0].strerror}", hint="cellnet needs root")
    return answers.count(b"")


def _named(flow: Flow) -> bytes:
    if {CTA_TUPLE_IP, CTA_TUPLE_PROTO} - {kind for kind, _, _ in attributes(flow.key)}:
        raise ValueError(f"no conntrack entry is named by the key {flow.key!r}")
    parts = [attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, flow.key), attribute(CTA_ID, struct.pack("!I", flow.id))]
    if flow.zone:
        parts.append(attribute(CTA_ZONE, struct.pack("!H", flow.zone)))
    return NFGENMSG_IPV4 + b"".join(parts)


def _answered_by(address: IPv4Address) -> bytes:
    """Have the kernel leave out what others answer. A kernel that cannot dumps all, so callers filter again."""
    reply = nested(CTA_TUPLE_REPLY, nested(CTA_TUPLE_IP, attribute(CTA_IP_V4_SRC, address.packed)))
    return reply + nested(CTA_FILTER, attribute(CTA_FILTER_REPLY_FLAGS, struct.pack("=I", BY_SOURCE)))


def _dump(link: NetlinkSocket, restriction: bytes = b"", *, about: bytes = b"") -> Iterator[Flow]:
    names: Names = {}
    for body in link.dump(CT_GET, NFGENMSG_IPV4 + restriction, what="connections"):
        if about in body:  # much cheaper than decoding what is not wanted
            yield decode(body, names)


# Both tuples of a TCP or UDP flow, as every kernel so far writes them where no zone has one direction only: the headers of
# attributes between the values they announce. Read at once they cost a fifth of a walk through the attributes.
_TUPLE = "12s4s4s4s8sBxxx4sHxx4sHxx"
_PLAIN = struct.Struct("!4x" + _TUPLE + _TUPLE)
_KEY = slice(8, 56)
_STATE = struct.Struct("=xxHHHB")  # of CTA_PROTOINFO: what protocol, and of TCP the first attribute


def _headers(direction: int) -> tuple[bytes, ...]:
    def header(length: int, kind: int) -> bytes:
        return ATTRIBUTE.pack(length, kind)

    addresses = header(52, direction | NLA_F_NESTED) + header(20, CTA_TUPLE_IP | NLA_F_NESTED) + header(8, CTA_IP_V4_SRC)
    protocol = header(28, CTA_TUPLE_PROTO | NLA_F_NESTED) + header(5, CTA_PROTO_NUM)
    return addresses, header(8, CTA_IP_V4_DST), protocol, header(6, CTA_PROTO_SRC_PORT), header(6, CTA_PROTO_DST_PORT)


_PLAIN_HEADERS = _headers(CTA_TUPLE_ORIG) + _headers(CTA_TUPLE_REPLY)


def decode(body: bytes, names: Names) -> Flow:
    """One entry, as a dump or an event has it. `names` is kept by the caller for as long as it reads."""
    if len(body) >= _PLAIN.size:
        a, source, b, destination, c, protocol, d, source_port, e, destination_port, \
            f, replier, g, replied, h, _, i, replier_port, j, replied_port = _PLAIN.unpack_from(body)  # fmt: skip
        if (a, b, c, d, e, f, g, h, i, j) == _PLAIN_HEADERS:
            rest = _rest(body, _PLAIN.size)
            return Flow(
                protocol,
                names.get(source) or _name(source, names), source_port,
                names.get(destination) or _name(destination, names), destination_port,
                names.get(replier) or _name(replier, names), replier_port,
                names.get(replied) or _name(replied, names), replied_port,
                *rest[:3], body[_KEY], *rest[3:],
            )  # fmt: skip
    return _walk(body, names)


def _name(packed: bytes, names: Names) -> IPv4Address:
    """The same few addresses come again and again, and making one is dear."""
    return names.setdefault(packed, IPv4Address(packed))


def _rest(body: bytes, start: int) -> tuple[int, int, int, int, int, int]:
    """Zone, id, status, mark, TCP's state and the seconds that are left, from the attributes after `start`."""
    zone = number = status = mark = state = left = 0
    for kind, begin, end in attributes(body, start=start):
        if kind == CTA_STATUS:
            status = int.from_bytes(body[begin:end], "big")
        elif kind == CTA_ID:
            number = int.from_bytes(body[begin:end], "big")
        elif kind == CTA_PROTOINFO:
            state = _tcp_state(body, begin) if end - begin >= _STATE.size else 0
        elif kind == CTA_TIMEOUT:
            left = int.from_bytes(body[begin:end], "big")
        elif kind == CTA_MARK:
            mark = int.from_bytes(body[begin:end], "big")
        elif kind == CTA_ZONE:
            zone = int.from_bytes(body[begin:end], "big")
    return zone, number, status, mark, state, left


def _tcp_state(body: bytes, start: int) -> int:
    """The state, which the kernel writes first; 0 for other protocols."""
    kind, _, inner, state = _STATE.unpack_from(body, start)
    return state if (kind, inner) == (CTA_PROTOINFO_TCP | NLA_F_NESTED, CTA_PROTOINFO_TCP_STATE) else 0


def _walk(body: bytes, names: Names) -> Flow:
    """Any flow, attribute by attribute: other protocols than TCP and UDP, zones of one direction."""
    found = contents(body, start=len(NFGENMSG_IPV4))
    protocol, sent = _tuple(found[CTA_TUPLE_ORIG], names)
    _, answered = _tuple(found[CTA_TUPLE_REPLY], names)
    rest = _rest(body, len(NFGENMSG_IPV4))
    return Flow(protocol, *sent, *answered, *rest[:3], found[CTA_TUPLE_ORIG], *rest[3:])


def _tuple(content: bytes, names: Names) -> tuple[int, tuple[IPv4Address, int, IPv4Address, int]]:
    parts = contents(content)
    addresses, protocol = contents(parts[CTA_TUPLE_IP]), contents(parts[CTA_TUPLE_PROTO])
    source, destination = (_name(addresses[kind], names) for kind in (CTA_IP_V4_SRC, CTA_IP_V4_DST))
    sent = protocol.get(CTA_PROTO_SRC_PORT, protocol.get(CTA_PROTO_ICMP_TYPE, b""))
    ports = [int.from_bytes(each, "big") for each in (sent, protocol.get(CTA_PROTO_DST_PORT, b""))]
    return protocol[CTA_PROTO_NUM][0], (source, ports[0], destination, ports[1])
