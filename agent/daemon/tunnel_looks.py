"""What the rollout of mutual TLS looks at in this cell's containers and in its kernel."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from agent.attach.reserved_ports import ReservedPorts
from agent.attach.transaction import AttachTransactions
from agent.cells.rollout import TunnelUse
from agent.cells.tunnel_mode import TunnelMode
from agent.config.config import Mtls
from agent.envoy.listeners import Listeners
from agent.loop.desired import CellFacts, tunnel_ports
from agent.loop.loop import Reconciler
from agent.model.attachment import Phase
from agent.store.ledger import Ledger
from dataplane.envoy.sockets.container_ports import connections
from dataplane.kernel import Kernel


@dataclass(frozen=True, slots=True)
class TunnelLooks:
    """The parts that know it."""

    mode: TunnelMode
    ledger: Ledger
    attaching: AttachTransactions
    ports: ReservedPorts
    listeners: Listeners
    loop: Reconciler
    kernel: Kernel
    facts: CellFacts

    async def unserved(self) -> Sequence[str]:
        """Containers where Envoy does not serve both ends of tunnels yet.

        In strict mode nothing waits for a program that has a port: plain TCP is refused already, so no call is lost by it.
        """
        wanted = {port for each in self.attaching.attached() for port in tunnel_ports(each, facts=self.facts)}
        if self.mode.mode is Mtls.STRICT:
            wanted -= self.ports.taken()
        return sorted({port.pin.name for port in await self.listeners.unserved(wanted)})

    def is_attaching(self) -> bool:
        """Whether a container is on its way in, and may have been promised listeners."""
        return any(each.phase is Phase.ATTACHING for each in self.ledger.all())

    async def use(self) -> TunnelUse:
        """Connections at both ends of tunnels, of all containers."""
        ends = [tunnel_ports(each, facts=self.facts) for each in self.attaching.attached()]
        calls, tunnels = await asyncio.to_thread(
            lambda: [connections(tuple(each)) for each in zip(*ends, strict=True)] or (0, 0)
        )
        return TunnelUse(tunnels=tunnels, calls=calls)

    async def plain_flows(self) -> int | None:
        """Open TCP connections of containers in no tunnel; None before the first turn of the loop."""
        state = self.loop.applied()
        if state is None:
            return None
        return await asyncio.wrap_future(self.kernel.plain_flows(state))
