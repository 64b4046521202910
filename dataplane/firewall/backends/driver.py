"""What the dataplane needs of a packet filter. One contract test suite holds for every backend."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

from dataplane.plan import ChainDelta, JumpDelta
from dataplane.tables import ChainKey

TOOL_SECONDS = 30.0  # for one call of a tool


@dataclass(frozen=True, slots=True)
class FirewallTables:
    """Ours, as the kernel has them: chains CELLNET-* with their rules, and the places of the jumps to them."""

    chains: Mapping[ChainKey, tuple[str, ...]]
    jumps: Mapping[ChainKey, tuple[int, ...]]

    def changed(self, *, chains: ChainDelta, jumps: JumpDelta) -> Self:
        """As they are after these changes."""
        return replace(self, chains=chains.of(self.chains), jumps=jumps.of(self.jumps))


class Firewall(Protocol):
    """One backend of iptables in the network namespace of the calling thread."""

    def read(self) -> FirewallTables:
        """Everything of ours. Raises HostRefused."""

    def apply(self, *, chains: ChainDelta, jumps: JumpDelta) -> None:
        """Make the changes, each table at once or not at all. Raises HostRefused."""
