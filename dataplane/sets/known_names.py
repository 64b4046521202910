"""What names of hosts outside have stood for, as this cell's resolver has answered: which addresses, and until when.

The sets that rules name are filled from it (`names.py`), and live flows are judged by it (`dataplane/way_out.py`). What is over
is still known for a while: a flow that began at its last moment is seen by then, and keeps it.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from ipaddress import IPv4Address
from threading import RLock
from typing import Final, TypeAlias

from dataplane.sets.name_patterns import patterns_of

LEAST: Final = 60.0  # seconds for which an address holds, however short its time to live
LONGEST: Final = 86_400.0
GRACE: Final = 60.0  # seconds for which what is over is known
MOST: Final = 4_096  # addresses of one name
Ends: TypeAlias = Mapping[IPv4Address, float]
"""Addresses, each with the moment at which it is over."""


def _unwritten(_name: str, _ends: Ends) -> None:
    """Kept nowhere."""


class KnownNames:
    """One per host; any thread may ask. `clock` is in seconds, goes on over restarts, never jumps; `write` keeps a change."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, write: Callable[[str, Ends], None] = _unwritten) -> None:
        self._clock, self._write = clock, write
        self._by_name: dict[str, dict[IPv4Address, float]] = {}
        self._by_address: dict[IPv4Address, set[str]] = {}
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._by_name)

    def recall(self, kept: Mapping[str, Ends]) -> None:
        """Take what an earlier process knew. What is over by now may have flows: it has its time of grace from now on."""
        now = self._clock()
        with self._lock:
            for name, ends in kept.items():
                for address, end in ends.items():
                    self._put(name, address, min(max(end, now), now + LONGEST))

    def remember(self, name: str, addresses: Collection[IPv4Address], *, seconds: float, most: int = MOST) -> Ends:
        """A name stands for these for so many seconds, at least LEAST; those that hold now, each with its end.

        A name that has MOST addresses gets no more, and at most so many new ones.
        """
        end = self._clock() + min(max(seconds, LEAST), LONGEST)
        with self._lock:
            known = self._by_name.get(name, {})
            room = min(MOST - len(known), most)
            new = [each for each in dict.fromkeys(addresses) if each not in known][: max(room, 0)]
            ends = {each: max(known.get(each, 0.0), end) for each in (*(each for each in addresses if each in known), *new)}
            self._take(name, ends)
        return ends

    def renew(self, addresses: Collection[IPv4Address]) -> Mapping[str, Ends]:
        """These have flows: whatever stands for them goes on doing so for LEAST seconds; by name, what holds longer now."""
        end = self._clock() + LEAST
        found: dict[str, dict[IPv4Address, float]] = {}
        with self._lock:
            for address in addresses:
                for name in self._by_address.get(address, ()):
                    if self._by_name[name][address] < end:
                        found.setdefault(name, {})[address] = end
            for name, ends in found.items():
                self._take(name, ends)
        return found

    def forget_old(self) -> None:
        """Drop what has been over for longer than GRACE."""
        now = self._clock()
        with self._lock:
            for name, ends in list(self._by_name.items()):
                for address in [each for each, end in ends.items() if end + GRACE < now]:
                    self._drop(name, address)

    def lead_to(self, address: IPv4Address, *, names: tuple[str, ...]) -> bool:
        """Whether one that these patterns mean stands for an address, or did so a moment ago."""
        patterns = patterns_of(names)
        with self._lock:
            return any(map(patterns.matches, self._by_address.get(address, ())))

    def names_of(self, address: IPv4Address) -> tuple[str, ...]:
        """Those that stand for an address, or did so a moment ago."""
        with self._lock:
            return tuple(sorted(self._by_address.get(address, ())))

    def addresses(self, names: tuple[str, ...]) -> Ends:
        """All of those that these patterns mean, with those that are over."""
        patterns = patterns_of(names)
        found: dict[IPv4Address, float] = {}
        with self._lock:
            for name, ends in self._by_name.items():
                if patterns.matches(name):
                    for address, end in ends.items():
                        found[address] = max(end, found.get(address, end))
        return found

    def count(self, names: tuple[str, ...]) -> int:
        """How many addresses those have that these patterns mean, each counted for itself."""
        patterns = patterns_of(names)
        with self._lock:
            return sum(len(ends) for name, ends in self._by_name.items() if patterns.matches(name))

    def count_of(self, name: str) -> int:
        """How many addresses one has."""
        with self._lock:
            return len(self._by_name.get(name, ()))

    def all(self) -> Iterator[tuple[str, Ends]]:
        """Each name with its addresses."""
        with self._lock:
            yield from [(name, dict(ends)) for name, ends in self._by_name.items()]

    def seconds_left(self, end: float) -> float:
        """Until then; negative where it is over."""
        return end - self._clock()

    def _take(self, name: str, ends: Ends) -> None:
        for address, end in ends.items():
            self._put(name, address, end)
        if ends:
            self._write(name, ends)

    def _put(self, name: str, address: IPv4Address, end: float) -> None:
        self._by_name.setdefault(name, {})[address] = end
        self._by_address.setdefault(address, set()).add(name)

    def _drop(self, name: str, address: IPv4Address) -> None:
        del self._by_name[name][address]
        self._by_address[address].discard(name)
        if not self._by_name[name]:
            del self._by_name[name]
        if not self._by_address[address]:
            del self._by_address[address]
