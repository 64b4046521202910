"""What Envoy should have of the state: its table, published to it, and whether it has taken a container's part."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from agent.envoy.listeners import Served, ServedListener
from agent.loop.known_kernel import KnownKernel
from dataplane.envoy.ads.ads import AdsServer
from dataplane.envoy.ads.resource import LISTENER
from dataplane.envoy.ads.table import ResourceTable
from dataplane.envoy.sockets.container_ports import ContainerPort
from dataplane.envoy.translation import Translation, WorkloadResources, listener_key, listening_on, of_workload, secrets_of
from dataplane.state import HostState, Workload


@dataclass(frozen=True, slots=True)
class WorkloadListeners:
    """What Envoy should have open of one container, and of what that follows."""

    workload: Workload
    made: WorkloadResources | None
    listeners: Served


class EnvoyTable:
    """One per loop."""

    def __init__(self, ads: AdsServer) -> None:
        self._ads = ads
        self._translation = Translation()
        self._resources = ResourceTable()
        self._known: tuple[KnownKernel, ResourceTable] | None = None
        self._listeners: dict[IPv4Address, WorkloadListeners] = {}
        self._served: Served = {}

    def publish(self, state: HostState, *, broken: Collection[IPv4Address]) -> ResourceTable:
        """From now on Envoy should have what is servable of `state`, the table that is returned. Only what changed is sent."""
        resources = self._translation.of(servable(state, broken=broken, served=self._resources))
        if resources is not self._resources:
            self._resources = resources
            self._ads.publish(resources)
        return resources

    async def connected(self, *, timeout: float) -> None:  # noqa: ASYNC109 -- as settled
        """Return when Envoy is connected. Raises Unavailable."""
        await self._ads.settled({}, timeout=timeout)

    async def acknowledged(self, address: IPv4Address, *, timeout: float) -> None:  # noqa: ASYNC109 -- its error names what is late
        """Return when Envoy has acknowledged what it serves at `address`, or its absence. Raises as AdsServer.settled."""
        await self._ads.settled(of_workload(self._resources, address), timeout=timeout)

    def has_taken_secrets(self) -> bool:
        """Whether Envoy, wherever it listens, presents the published leaf and trusts the published roots."""
        listeners = self._ads.listeners()
        return listeners is not None and self._ads.has(secrets_of(self._resources, listeners))

    def served(self, known: KnownKernel) -> Served:
        """What Envoy should have open, of the containers that are in place. Asked for again and again between two turns."""
        if self._known is None or self._known[0] is not known or self._known[1] is not self._resources:
            self._known = known, self._resources
            self._follow({} if known.state is None else known.state.workloads, broken=known.broken)
        return self._served

    def _follow(self, workloads: Mapping[IPv4Address, Workload], *, broken: Collection[IPv4Address]) -> None:
        """Put together anew what has changed: to do so for 250 containers takes ten milliseconds."""
        before, made = self._listeners, self._translation.made
        self._listeners = {
            address: self._listeners_of(each, made.get(address), before.get(address))
            for address, each in workloads.items()
            if address not in broken
        }
        served = dict(self._served)
        for address, each in before.items():
            if self._listeners.get(address) is not each:
                for port in each.listeners:
                    served.pop(port, None)
        for address, each in self._listeners.items():
            if before.get(address) is not each:
                served |= each.listeners
        self._served = served

    def _listeners_of(
        self, workload: Workload, made: WorkloadResources | None, known: WorkloadListeners | None
    ) -> WorkloadListeners:
        if known is not None and known.workload is workload and known.made is made:
            return known
        address, published = workload.address, self._resources.named(LISTENER)
        versions = of_workload(self._resources, address)
        keys = {listener_key(address, type(each)): each for each in workload.listeners}
        listeners = {
            ContainerPort(listening_on(address, each), each.port, workload.pin): ServedListener(address, key, versions)
            for key, each in keys.items()
            if key.name in published
        }
        return WorkloadListeners(workload, made, listeners)


def servable(state: HostState, *, broken: Collection[IPv4Address], served: ResourceTable) -> HostState:
    """`state` without the workloads that are not in place, unless Envoy has them already (`served`): those keep their calls.

    Envoy could not bind in their namespaces, and one that fails to bind stays in the namespace with its main thread.
    """
    left_out = {address for address in broken if listener_key(address) not in served}
    if not left_out:
        return state
    return replace(state, workloads={key: value for key, value in state.workloads.items() if key not in left_out})
