"""Sets of addresses, each with the mark that the kernel writes into its packets. Ours by their names: `cellnet-tags`, the
containers with their tags, and `cellnet-vteps`, the peers from which tunnelled packets are taken, with the part of the overlay
that is each one's own (`firewall/bpf.py`).
"""

import socket
import struct
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address

from dataplane.sets.messages import (
    ADD,
    CONTENT,
    CREATE,
    DELETE,
    FAMILY,
    FLAGS,
    HINT,
    IN_NETWORK_ORDER,
    REVISION,
    TYPE,
    address_entry,
    addressed,
    named,
    number,
    parts_of,
)
from host.errors import HostRefused
from host.netlink.messages import NETLINK_NETFILTER, NLM_F_ACK, attribute, nested
from host.netlink.socket import connect

WITH_MARKS, MARK = 1 << 6, 27
MARKED = struct.Struct("!II")  # mark, mask
WITH = nested(CONTENT, number(FLAGS, WITH_MARKS))


class MarkSet:
    """One of the namespace that the calling thread is in; one thread only. `mask` says which bits of a mark are written."""

    def __init__(self, name: str, *, mask: int) -> None:
        self.name, self._mask = name, mask
        self._named = named(name)
        self._link = connect(NETLINK_NETFILTER)

    def close(self) -> None:
        """Give the socket back."""
        self._link.close()

    def read(self) -> dict[IPv4Address, int]:
        """Its entries; a set that is not there has none. Raises HostRefused."""
        return {address: self._mark_of(entry) for address, entry in addressed(self._link, self.name)}

    def _mark_of(self, entry: bytes) -> int:
        marks = parts_of(entry, kind=MARK)
        return int(MARKED.unpack(marks[0])[0]) & self._mask if marks else 0

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
        put = [address_entry(address, attribute(MARK | IN_NETWORK_ORDER, each)) for address, each in packed.items()]
        self._change(ADD, put, what="add to")

    def drop(self, addresses: Collection[IPv4Address]) -> None:
        """Remove entries; those that have gone already are fine. Raises HostRefused."""
        self._change(DELETE, [address_entry(address) for address in addresses], what="remove from")

    def _change(self, kind: int, changed: Sequence[bytes], *, what: str) -> None:
        bodies = [self._named + entry for entry in changed]
        refused = [each for each in self._link.ask(kind, bodies, flags=NLM_F_ACK) if isinstance(each, OSError)]
        if refused:
            what = f"cannot {what} set {self.name}, {len(refused)} of {len(bodies)}: {refused[0].strerror}"
            raise HostRefused(what, hint=HINT) from refused[0]
