"""Sets of networks outside that rules of egress name (`firewall/egress.py`). Ours by their names: `cellnet-out-` and a hash.

A set's name says what it holds, so that one is made whole before any rule names it, is never changed while one does, and goes
when none does any longer. Containers with limits (`cellnet-over-`, `firewall/limits.py`) are sets of the same kind, which count
how often a rule has found each of them.
"""

import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Final, NamedTuple

from dataplane.sets.messages import (
    ADD,
    CONTENT,
    CREATE,
    DELETE,
    FAMILY,
    FLAGS,
    HINT,
    IN_NETWORK_ORDER,
    IP,
    IPV4_ADDRESS,
    MOST,
    REVISION,
    TYPE,
    destroy,
    entries,
    listed,
    named,
    number,
)
from dataplane.tables import OUTSIDE_SETS
from host.errors import HostRefused
from host.netlink.messages import NETLINK_NETFILTER, NLM_F_ACK, attribute, attributes, nested
from host.netlink.socket import connect

PREFIX, WITH_COUNTERS = 3, 1 << 3
CAPACITY: Final = 1 << 16  # networks; the kernel's own default
BELIEVED: Final = 60.0  # seconds: the number of entries stands for what they are, which a change may leave as it is
Networks = tuple[IPv4Network, ...]


class _SetRead(NamedTuple):
    """What a set held when it was read."""

    networks: Networks
    until: float


class OutsideSets:
    """Those of the namespace that the calling thread is in; one thread only. `clock` is in seconds and never jumps.

    They are those whose names begin with `prefix`. Those that are `counted` count, and their names do not say what they hold.
    """

    def __init__(
        self, prefix: str = OUTSIDE_SETS, *, counted: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._prefix = prefix
        self._believed = 0.0 if counted else BELIEVED
        self._flags = number(FLAGS, WITH_COUNTERS) if counted else b""
        self._link = connect(NETLINK_NETFILTER)
        self._clock = clock
        self._known: dict[str, _SetRead] = {}

    def close(self) -> None:
        """Give the socket back."""
        self._link.close()

    def read(self) -> dict[str, Networks]:
        """All, with their networks in ascending order. Raises HostRefused."""
        now, found = self._clock(), {}
        for name, count in listed(self._link, prefix=self._prefix):
            known = self._known.get(name)
            if known is None or len(known.networks) != count or known.until <= now:
                known = _SetRead(tuple(sorted(map(_decoded, entries(self._link, name)))), now + self._believed)
            found[name] = known
        self._known = found
        return {name: known.networks for name, known in found.items()}

    def put(self, sets: Mapping[str, Networks], *, old: Mapping[str, Networks]) -> None:
        """Make sets, or have those that are there hold what they should. Raises HostRefused."""
        for name, networks in sets.items():
            self._make(name, max(CAPACITY, len(networks)))
            before = frozenset(old.get(name, ()))
            self._change(ADD, name, [each for each in networks if each not in before], what="add to")
            self._change(DELETE, name, before.difference(networks), what="remove from")

    def drop(self, names: Collection[str]) -> None:
        """Remove sets. One that a rule of another program names stays until it is let go. Raises HostRefused."""
        destroy(self._link, names, clock=self._clock)

    def _make(self, name: str, most: int) -> None:
        asked = attribute(TYPE, b"hash:net\0") + attribute(REVISION, b"\6") + attribute(FAMILY, bytes([socket.AF_INET]))
        size = nested(CONTENT, number(MOST, most) + self._flags)
        (answer,) = self._link.ask(CREATE, [named(name) + asked + size], flags=NLM_F_ACK)
        if isinstance(answer, OSError):
            hint = f"a set {name} of another type is in the way, or the kernel lacks ip_set_hash_net: ipset destroy {name}"
            raise HostRefused(f"cannot make set {name}: {answer.strerror}", hint=hint) from answer

    def _change(self, kind: int, name: str, networks: Iterable[IPv4Network], *, what: str) -> None:
        begun = named(name)
        bodies: Sequence[bytes] = [begun + _entry(each) for each in networks]
        refused = [each for each in self._link.ask(kind, bodies, flags=NLM_F_ACK) if isinstance(each, OSError)]
        if refused:
            what = f"cannot {what} set {name}, {len(refused)} of {len(bodies)}: {refused[0].strerror}"
            raise HostRefused(what, hint=HINT) from refused[0]


def _entry(network: IPv4Network) -> bytes:
    address = nested(IP, attribute(IPV4_ADDRESS | IN_NETWORK_ORDER, network.network_address.packed))
    return nested(CONTENT, address + attribute(PREFIX, bytes([network.prefixlen])))


def _decoded(entry: bytes) -> IPv4Network:
    prefix, packed = 32, b""
    for part, first, last in attributes(entry):
        if part == PREFIX:
            prefix = entry[first]
        elif part == IP:
            packed = entry[first + 4 : last]  # behind the header of the one attribute in there
    return IPv4Network((packed, prefix))
