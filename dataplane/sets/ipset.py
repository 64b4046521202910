"""Sets of addresses, each with the mark that the kernel writes into its packets. Ours by their names: `cellnet-tags`, the
containers with their tags, and `cellnet-vteps`, the peers from which tunnelled packets are taken, with the part of the overlay
that is each one's own (`firewall/bpf.py`).

Asked in binary, and several entries at a time: there may be a thousand.
"""

import socket
import struct
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address

from host.errors import HostRefused
from host.netlink.messages import NETLINK_NETFILTER, NFGENMSG_IPV4, NLM_F_ACK, attribute, attributes, nested
from host.netlink.socket import connect

CREATE, LIST, ADD, DELETE = 0x602, 0x607, 0x609, 0x60A  # subsystem 6 is ipset
PROTOCOL, SET, TYPE, REVISION, FAMILY, CONTENT, ENTRIES = 1, 2, 3, 4, 5, 7, 8
IP, IPV4_ADDRESS, IN_NETWORK_ORDER = 1, 1, 0x4000
FLAGS, WITH_MARKS, MARK = 8, 1 << 6, 27
MARKED = struct.Struct("!II")  # mark, mask
WITH = nested(CONTENT, attribute(FLAGS | IN_NETWORK_ORDER, struct.pack("!I", WITH_MARKS)))
HINT = "the kernel needs the ip_set and ip_set_hash_ip modules"


class MarkSet:
    """One of the namespace that the calling thread is in; one thread only. `mask` says which bits of a mark are written."""

    def __init__(self, name: str, *, mask: int) -> None:
        self.name, self._mask = name, mask
        self._named = NFGENMSG_IPV4 + attribute(PROTOCOL, b"\x06") + attribute(SET, name.encode() + b"\0")
        self._link = connect(NETLINK_NETFILTER)

    def close(self) -> None:
        """Give the socket back."""
        self._link.close()

    def read(self) -> dict[IPv4Address, int]:
        """Its entries; a set that is not there has none. Raises HostRefused."""
        found: dict[IPv4Address, int] = {}
        try:
            bodies = self._link.dump(LIST, self._named, what=f"set {self.name}")
        except HostRefused as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return {}
            raise
        for body in bodies:
            for entry in parts_of(body, start=len(NFGENMSG_IPV4), kind=ENTRIES):
                for value in parts_of(entry, kind=CONTENT):
                    marks = [MARKED.unpack(each)[0] & self._mask for each in parts_of(value, kind=MARK)]
                    for address in parts_of(value, kind=IP):
                        for packed in parts_of(address, kind=IPV4_ADDRESS):
                            found[IPv4Address(packed)] = marks[0] if marks else 0
        return found

    def ensure(self) -> None:
        """Make the set where it is missing: rules that name it can only be loaded then. Raises HostRefused."""
        asked = attribute(TYPE, b"hash:ip\0") + attribute(REVISION, b"\4") + attribute(FAMILY, bytes([socket.AF_INET]))
        (answer,) = self._link.ask(CREATE, [self._named + asked + WITH], flags=NLM_F_ACK)
        if isinstance(answer, OSError):
            hint = f"a set {self.name} of another type is in the way: ipset destroy {self.name}"
            raise HostRefused(f"cannot make set {self.name}: {answer.strerror}", hint=hint) from answer

    def put(self, marks: Mapping[IPv4Address, int]) -> None:
        """Write entries; those that are there are fine. Raises HostRefused."""
        packed = {address: MARKED.pack(mark, self._mask) for address, mark in marks.items()}
        entries = [_entry(address, attribute(MARK | IN_NETWORK_ORDER, each)) for address, each in packed.items()]
        self._change(ADD, entries, what="add to")

    def drop(self, addresses: Collection[IPv4Address]) -> None:
        """Remove entries; those that have gone already are fine. Raises HostRefused."""
        self._change(DELETE, [_entry(address) for address in addresses], what="remove from")

    def _change(self, kind: int, entries: Sequence[bytes], *, what: str) -> None:
        bodies = [self._named + entry for entry in entries]
        refused = [each for each in self._link.ask(kind, bodies, flags=NLM_F_ACK) if isinstance(each, OSError)]
        if refused:
            what = f"cannot {what} set {self.name}, {len(refused)} of {len(bodies)}: {refused[0].strerror}"
            raise HostRefused(what, hint=HINT) from refused[0]


def _entry(address: IPv4Address, more: bytes = b"") -> bytes:
    return nested(CONTENT, nested(IP, attribute(IPV4_ADDRESS | IN_NETWORK_ORDER, address.packed)) + more)


def parts_of(body: bytes, *, kind: int, start: int = 0) -> list[bytes]:
    """The contents of all attributes of one kind."""
    return [body[begin:end] for found, begin, end in attributes(body, start=start) if found == kind]
