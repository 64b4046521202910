"""What Envoy may serve of a HostState: nothing that the kernel has no place for. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from dataplane.envoy.resource import Resource, ResourceKey
from dataplane.envoy.resources import listener_key
from dataplane.state import HostState


def servable(state: HostState, *, failures: Collection[IPv4Address], served: Mapping[ResourceKey, Resource]) -> HostState:
    """`state` without the workloads that are not in place, unless Envoy has them already (`served`): those keep their calls.

    Envoy could not bind in their namespaces, and one that fails to bind stays in the namespace with its main thread.
    """
    left_out = {address for address in failures if listener_key(address) not in served}
    if not left_out:
        return state
    return replace(state, workloads={key: value for key, value in state.workloads.items() if key not in left_out})
