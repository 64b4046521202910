"""What one cell publishes of what runs on it, decoded as it changes: work for one record per change, whatever else is there.

A cell has no more containers than its part of the overlay has addresses. Of one that publishes more, so many records are
decoded; the others are only counted, and the cell is named.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from agent.model.cell import Endpoint
from agent.model.routes import RouteDomains
from agent.store.etcd import records
from agent.store.etcd.client import Value


class CellEndpoints:
    """Nothing runs until the cell has its `place`. `running` has one endpoint for each address, the first by name.

    All records have keys that begin with `prefix`; `domains`, where known, are those of all routes.
    """

    def __init__(self, cell: str, prefix: str, *, domains: RouteDomains | None) -> None:
        self._cell = cell
        self._prefix = prefix
        self._domains = domains
        self._subnet: IPv4Network | None = None
        self._decoded: dict[str, Endpoint | None] = {}
        self._excess: set[str] = set()
        self._at: dict[IPv4Address, set[str]] = {}
        self._before: dict[IPv4Address, Endpoint | None] = {}
        self._left_out: dict[str, str] = {}
        self.values: dict[str, Value] = {}
        self.running: dict[IPv4Address, Endpoint] = {}

    @property
    def room(self) -> int:
        """How many containers its part of the overlay has addresses for: the first two and the last are no container's."""
        return max(self._subnet.num_addresses - 3, 0) if self._subnet else 0

    def get(self, name: str) -> Endpoint | None:
        """The one of that name, if it runs."""
        found = self._decoded.get(self._prefix + name)
        return found if found is not None and self.running.get(found.address) == found else None

    def left_out(self) -> Iterator[tuple[str, str]]:
        """Key and reason of what does not count."""
        yield from self._left_out.items()
        if self._excess:
            many = f"it publishes {len(self.values)} endpoints, and {self._subnet} has room for {self.room}"
            yield self._prefix, f"{many}: {len(self._excess)} are left out"

    def update(self, key: str, value: Value | None) -> None:
        """One record is another now, or gone (None)."""
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value
        if self._subnet is None:
            return
        self._excess.discard(key)
        self._forget(key)
        if value is not None:
            self._take(key)
        elif self._excess and len(self._decoded) < self.room:
            self._take(self._excess.pop())

    def place(self, subnet: IPv4Network | None) -> None:
        """Which part of the overlay the cell has as long as it is alive; None while it has none."""
        if subnet == self._subnet:
            return
        for address, each in self.running.items():
            self._before.setdefault(address, each)
        for known in (self._decoded, self._excess, self._at, self._left_out, self.running):
            known.clear()
        self._subnet = subnet
        for key in sorted(self.values) if subnet is not None else ():
            self._take(key)

    def take_changes(self) -> Iterator[tuple[IPv4Address, Endpoint | None, Endpoint | None]]:
        """Address, what ran there at the last call, and what runs there now, where that is something else."""
        before, self._before = self._before, {}
        for address, each in before.items():
            if each != self.running.get(address):
                yield address, each, self.running.get(address)

    def _take(self, key: str) -> None:
        if len(self._decoded) >= self.room:
            self._excess.add(key)
            return
        try:
            name = key.removeprefix(self._prefix)
            found = records.decode_endpoint(self._cell, name, self.values[key], domains=self._domains)
        except ValueError as error:
            self._decoded[key] = None
            self._left_out[key] = str(error)
        else:
            self._decoded[key] = found
            self._at.setdefault(found.address, set()).add(key)
            self._settle(found.address)

    def _forget(self, key: str) -> None:
        found = self._decoded.pop(key, None)
        self._left_out.pop(key, None)
        if found is not None:
            self._at[found.address].discard(key)
            self._settle(found.address)

    def _settle(self, address: IPv4Address) -> None:
        """Of several that have one address, the first by name has it."""
        assert self._subnet is not None
        now: Endpoint | None = None
        for key in sorted(self._at[address]):
            self._left_out.pop(key, None)
            if not 2 <= int(address) - int(self._subnet.network_address) < self._subnet.num_addresses - 1:
                self._left_out[key] = f"its address {address} is no container's of {self._subnet}"
            elif now is not None:
                self._left_out[key] = f"its address {address} is that of {now.name} too"
            else:
                now = self._decoded[key]
        if not self._at[address]:
            del self._at[address]
        self._before.setdefault(address, self.running.get(address))
        if now is None:
            self.running.pop(address, None)
        else:
            self.running[address] = now
