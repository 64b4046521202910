"""Set `cellnet-vteps`: the underlay addresses of the peers, from which tunnelled packets are taken, and for each the mark
that says which part of the overlay is its own (`firewall/origin.py`). Ours by its name.

Asked in binary, and several entries at a time: there may be a thousand.
"""

import socket
import struct
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address

from dataplane.errors import HostRefused
from dataplane.firewall.overlay import VTEPS_SET
from dataplane.flows import netlink
from dataplane.flows.netlink import NLM_F_ACK, attribute, attributes, nested

NETLINK_NETFILTER = 12
CREATE, LIST, ADD, DELETE = 0x602, 0x607, 0x609, 0x60A  # subsystem 6 is ipset
LEADS = struct.pack("=BBH", socket.AF_INET, 0, 0)  # family, version, resource
PROTOCOL, SET, TYPE, REVISION, FAMILY, CONTENT, ENTRIES = 1, 2, 3, 4, 5, 7, 8
IP, IPV4_ADDRESS, IN_NETWORK_ORDER = 1, 1, 0x4000
FLAGS, WITH_MARKS, MARK = 8, 1 << 6, 27
MARKED, ALL = struct.Struct("!II"), b"\xff" * 4  # mark, mask
NAMED = LEADS + attribute(PROTOCOL, b"\x06") + attribute(SET, VTEPS_SET.encode() + b"\0")
WITH = nested(CONTENT, attribute(FLAGS | IN_NETWORK_ORDER, struct.pack("!I", WITH_MARKS)))
HINT = "the kernel needs the ip_set and ip_set_hash_ip modules"


class SenderSet:
    """The set of the namespace that the calling thread is in; one thread only."""

    def __init__(self) -> None:
        self._link = netlink.connect(NETLINK_NETFILTER)

    def close(self) -> None:
        """Give the socket back."""
        self._link.close()

    def read(self) -> dict[IPv4Address, IPv4Address]:
        """Its entries; a set that is not there has none. Raises HostRefused."""
        found: dict[IPv4Address, IPv4Address] = {}
        try:
            bodies = self._link.dump(LIST, NAMED, what=f"set {VTEPS_SET}")
        except HostRefused as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return {}
            raise
        for body in bodies:
            for entry in _inside(body, start=len(LEADS), kind=ENTRIES):
                for value in _inside(entry, kind=CONTENT):
                    marks = [MARKED.unpack(each)[0] for each in _inside(value, kind=MARK)]
                    for address in _inside(value, kind=IP):
                        for packed in _inside(address, kind=IPV4_ADDRESS):
                            found[IPv4Address(packed)] = IPv4Address(marks[0] if marks else 0)
        return found

    def ensure(self) -> None:
        """Make the set where it is missing: rules that name it can only be loaded then. Raises HostRefused."""
        asked = attribute(TYPE, b"hash:ip\0") + attribute(REVISION, b"\4") + attribute(FAMILY, bytes([socket.AF_INET]))
        (answer,) = self._link.ask(CREATE, [NAMED + asked + WITH], flags=NLM_F_ACK)
        if isinstance(answer, OSError):
            hint = f"a set {VTEPS_SET} of another type is in the way: ipset destroy {VTEPS_SET}"
            raise HostRefused(f"cannot make set {VTEPS_SET}: {answer.strerror}", hint=hint) from answer

    def put(self, marks: Mapping[IPv4Address, IPv4Address]) -> None:
        """Write entries; those that are there are fine. Raises HostRefused."""
        entries = [_entry(address, attribute(MARK | IN_NETWORK_ORDER, mark.packed + ALL)) for address, mark in marks.items()]
        self._change(ADD, entries, what="add to")

    def drop(self, addresses: Collection[IPv4Address]) -> None:
        """Remove entries; those that have gone already are fine. Raises HostRefused."""
        self._change(DELETE, [_entry(address) for address in addresses], what="remove from")

    def _change(self, kind: int, entries: Sequence[bytes], *, what: str) -> None:
        bodies = [NAMED + entry for entry in entries]
        refused = [each for each in self._link.ask(kind, bodies, flags=NLM_F_ACK) if isinstance(each, OSError)]
        if refused:
            what = f"cannot {what} set {VTEPS_SET}, {len(refused)} of {len(bodies)}: {refused[0].strerror}"
            raise HostRefused(what, hint=HINT) from refused[0]


def _entry(address: IPv4Address, more: bytes = b"") -> bytes:
    return nested(CONTENT, nested(IP, attribute(IPV4_ADDRESS | IN_NETWORK_ORDER, address.packed)) + more)


def _inside(body: bytes, *, kind: int, start: int = 0) -> list[bytes]:
    return [body[begin:end] for found, begin, end in attributes(body, start=start) if found == kind]
