"""What Envoy should have of the state: its table, published to it, and whether it has taken a container's part."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from agent.envoy.listeners import Served, ServedListener
from agent.loop.known_kernel import KnownKernel
from dataplane.envoy.ads import AdsServer
from dataplane.envoy.container_ports import ContainerPort
from dataplane.envoy.resource import Resource, ResourceKey
from dataplane.envoy.translation import Translation, listener_key, listening_on, of_workload, secrets_of
from dataplane.state import HostState


class EnvoyTable:
    """One per loop."""

    def __init__(self, ads: AdsServer) -> None:
        self._ads = ads
        self._translation = Translation()
        self._resources: Mapping[ResourceKey, Resource] = {}
        self._served: tuple[KnownKernel, Mapping[ResourceKey, Resource], Served] | None = None

    def publish(self, state: HostState, *, broken: Collection[IPv4Address]) -> Mapping[ResourceKey, Resource]:
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
        if self._served is None or self._served[0] is not known or self._served[1] is not self._resources:
            self._served = known, self._resources, self._served_now(known)
        return self._served[2]

    def _served_now(self, known: KnownKernel) -> Served:
        workloads = {} if known.state is None else known.state.workloads
        return {
            ContainerPort(listening_on(address, listener), listener.port, workload.pin): ServedListener(
                address, listener_key(address, type(listener)), of_workload(self._resources, address)
            )
            for address, workload in workloads.items()
            for listener in workload.listeners
            if listener_key(address, type(listener)) in self._resources and address not in known.broken
        }


def servable(state: HostState, *, broken: Collection[IPv4Address], served: Mapping[ResourceKey, Resource]) -> HostState:
    """`state` without the workloads that are not in place, unless Envoy has them already (`served`): those keep their calls.

    Envoy could not bind in their namespaces, and one that fails to bind stays in the namespace with its main thread.
    """
    left_out = {address for address in broken if listener_key(address) not in served}
    if not left_out:
        return state
    return replace(state, workloads={key: value for key, value in state.workloads.items() if key not in left_out})
