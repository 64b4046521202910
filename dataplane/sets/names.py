"""Sets of the addresses that names of hosts outside stand for, which rules of egress name (`firewall/egress.py`). Ours by their
names: `cellnet-name-` and a hash of the names.

A plan makes and drops them; what is in them is put there with each answer of the resolver, and goes by itself when its time is
over. So no repair, no reload and no restart empties one, and a new one has from the start what is known of its names.
"""

import math
import socket
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address
from threading import Lock
from typing import Final

from dataplane.sets.known_names import LEAST, Ends, KnownNames
from dataplane.sets.messages import (
    ADD,
    CONTENT,
    CREATE,
    DELETE,
    FAMILY,
    GONE,
    MOST,
    REVISION,
    TYPE,
    address_entry,
    addressed,
    destroy,
    listed,
    named,
    number,
)
from dataplane.sets.name_patterns import patterns_of
from dataplane.tables import NAME_SETS
from host.errors import HostRefused
from host.netlink.messages import NETLINK_NETFILTER, NLM_F_ACK, attribute, nested
from host.netlink.socket import connect

TIMEOUT: Final = 6
CAPACITY: Final = 1 << 14  # addresses in one
MOST_KNOWN: Final = 1 << 15  # addresses of all names that one is for: below `*.example.org` there may be any number of names
Patterns = tuple[str, ...]


class NameSets:
    """Those of the namespace that the calling thread is in when they are made; any thread may use them."""

    def __init__(self, known: KnownNames) -> None:
        self._known = known
        self._link = connect(NETLINK_NETFILTER)
        self._lock = Lock()
        self._patterns: dict[str, Patterns] = {}  # of the sets that are there
        self._counts: dict[str, int] = {}  # of what is known for each, at the last look, and what has come since

    def close(self) -> None:
        """Give the socket back; the sets stay."""
        self._link.close()

    def read(self) -> dict[str, Patterns]:
        """All that are there, with the patterns that they were made for: none where an earlier process has made one."""
        with self._lock:
            return {name: self._patterns.get(name, ()) for name, _ in listed(self._link, prefix=NAME_SETS)}

    def put(self, sets: Mapping[str, Patterns]) -> None:
        """Make sets, with what is known of their names; what is in one already stays. Raises HostRefused."""
        with self._lock:
            for name, patterns in sets.items():
                self._make(name)
                self._patterns[name] = patterns
                self._counts[name] = self._known.count(patterns)
                self._write(name, self._known.addresses(patterns))

    def drop(self, names: Collection[str]) -> None:
        """Remove sets. Raises HostRefused."""
        with self._lock:
            for name in names:
                self._patterns.pop(name, None)
                self._counts.pop(name, None)
            destroy(self._link, names)

    def open(
        self, name: str, addresses: Collection[IPv4Address], *, seconds: float, into: Collection[str]
    ) -> tuple[IPv4Address, ...]:
        """A name stands for these for so many seconds: those that are in all sets `into` now, in their order.

        A set that is full, or a name that has too many, takes no more, nor do names of which too much is known for one of the
        sets. Raises HostRefused.
        """
        with self._lock:
            before = self._known.count_of(name)
            room = min((MOST_KNOWN - self._counts.get(each, 0) for each in into), default=MOST_KNOWN)
            ends = self._known.remember(name, addresses, seconds=seconds, most=room)
            refused: set[IPv4Address] = set()
            for each, patterns in self._patterns.items():
                if patterns_of(patterns).matches(name):
                    self._counts[each] += self._known.count_of(name) - before
                    left_out = self._write(each, ends)
                    refused.update(left_out if each in into else ())
        return tuple(each for each in addresses if each in ends and each not in refused)

    def renew(self, reached: Collection[IPv4Address]) -> None:
        """These have flows, so that names go on standing for them; what is over goes. Raises HostRefused."""
        with self._lock:
            for name, ends in self._known.renew(reached).items():
                for each, patterns in self._patterns.items():
                    if patterns_of(patterns).matches(name):
                        self._write(each, ends)
            self._known.forget_old()

    def mend(self) -> int:
        """Have the sets hold what is known, where another program has changed them: how many entries were not right.

        Raises HostRefused.
        """
        mended = 0
        with self._lock:
            for name, patterns in self._patterns.items():
                self._counts[name] = self._known.count(patterns)
                found, known = {address for address, _ in addressed(self._link, name)}, self._known.addresses(patterns)
                lost = {each: end for each, end in known.items() if each not in found and self._known.seconds_left(end) > 1}
                self._write(name, lost)
                foreign = found - known.keys()
                self._link.ask(DELETE, [named(name) + address_entry(each) for each in foreign], flags=NLM_F_ACK)
                mended += len(lost) + len(foreign)
        return mended

    def _make(self, name: str) -> None:
        asked = attribute(TYPE, b"hash:ip\0") + attribute(REVISION, b"\4") + attribute(FAMILY, bytes([socket.AF_INET]))
        sizes = number(MOST, CAPACITY) + number(TIMEOUT, int(LEAST))
        (answer,) = self._link.ask(CREATE, [named(name) + asked + nested(CONTENT, sizes)], flags=NLM_F_ACK)
        if isinstance(answer, OSError):
            hint = f"a set {name} of another type is in the way: ipset destroy {name}"
            raise HostRefused(f"cannot make set {name}: {answer.strerror}", hint=hint) from answer

    def _write(self, name: str, ends: Ends) -> set[IPv4Address]:
        """Those that it does not take. What is in it gets its new end."""
        left = {address: math.ceil(self._known.seconds_left(end)) for address, end in ends.items()}
        holding = [address for address, seconds in left.items() if seconds > 0]
        bodies = [named(name) + address_entry(address, number(TIMEOUT, left[address])) for address in holding]
        answers = self._link.ask(ADD, bodies, flags=NLM_F_ACK)
        return {
            address
            for address, answer in zip(holding, answers, strict=True)
            if isinstance(answer, OSError) and answer.errno != GONE  # it is made in a moment, with what is known
        }
