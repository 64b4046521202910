"""Rules are read only where another program may have changed them: among 20,000 a read takes half a second of a processor.

Each backend has a stamp of all rules, which is cheap to ask for. What was read at a stamp, or follows from that by our own
writes, is true as long as the kernel has that stamp.
"""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dataplane.firewall.backends.driver import Firewall, FirewallTables
from dataplane.plan import ChainDelta, JumpDelta

Stamp = TypeVar("Stamp", bound=Hashable)


class StampedFirewall(Firewall, Protocol[Stamp]):
    """A backend with stamps."""

    @property
    def believed(self) -> float:
        """For how many seconds after a read the stamp may stand for another: it may miss a change."""

    def stamp(self) -> Stamp | None:
        """Other after a change; None where there is none."""

    def stamp_after(self, before: Stamp, *, chains: ChainDelta, jumps: JumpDelta) -> Stamp | None:
        """What it is after these changes of ours, if no other program changed anything since `before`; None if not sure."""


@dataclass(frozen=True, slots=True)
class _Known(Generic[Stamp]):
    stamp: Stamp
    tables: FirewallTables
    until: float


class CachedFirewall(Generic[Stamp]):
    """One backend, in the namespace of its callers: one thread writes, another may read meanwhile."""

    def __init__(self, backend: StampedFirewall[Stamp], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._clock = clock
        self._lock = threading.Lock()
        self._known: _Known[Stamp] | None = None
        self._writes = 0

    def read(self) -> FirewallTables:
        """Everything of ours. Raises HostRefused."""
        with self._lock:
            stamp, now, writes = self._backend.stamp(), self._clock(), self._writes
            known = self._known
            if known is not None and known.stamp == stamp and now < known.until:
                return known.tables
        found = self._backend.read()
        with self._lock:
            if stamp is not None and self._writes == writes and self._backend.stamp() == stamp:
                self._known = _Known(stamp, found, now + self._backend.believed)
        return found

    def apply(self, *, chains: ChainDelta, jumps: JumpDelta) -> None:
        """Make the changes, each table at once or not at all. Raises HostRefused."""
        with self._lock:  # a look waits for a write, not the other way round
            known, self._known = self._known, None
            self._writes += 1
            before = self._backend.stamp()
            self._backend.apply(chains=chains, jumps=jumps)
            if known is None or known.stamp != before:
                return
            # not asked for here: nft would answer only when the tool has closed its socket, and a revoke would cut 10 ms later
            # If another program wrote meanwhile, the kernel's stamp is another one when the next look asks.
            after = self._backend.stamp_after(known.stamp, chains=chains, jumps=jumps)
            if after is not None:
                self._known = _Known(after, known.tables.changed(chains=chains, jumps=jumps), known.until)
