"""Which containers lost something between two states of the cell, so that only their flows have to be looked at. Pure."""

from collections.abc import Collection
from ipaddress import IPv4Address
from typing import TypeAlias

from dataplane.state import HostState, Workload

Addresses: TypeAlias = "frozenset[IPv4Address] | None"
"""Where to look for flows; None means everywhere."""
NOWHERE: frozenset[IPv4Address] = frozenset()


def joined(one: Addresses, other: Addresses) -> Addresses:
    """Both."""
    return None if one is None or other is None else one | other


def lost_rights(before: HostState, after: HostState) -> Addresses:
    """Containers that have gone, and those that fewer may reach; None means everywhere.

    An address that changed its tag may have flows to anywhere that its new tag may not have; what goes to a cell that is no
    peer any more would leave by the default route.
    """
    if not before.peers.keys() <= after.peers.keys():
        return None
    if any(
        each.address in after.workloads and after.workloads[each.address].tag != each.tag for each in before.workloads.values()
    ):
        return None
    smaller = {name for name, tags in before.groups.items() if not tags <= after.groups.get(name, frozenset())}
    return frozenset(
        address
        for address, workload in before.workloads.items()
        if _lost(workload, after.workloads.get(address)) or (smaller and _relies_on(smaller, workload))
    )


def _relies_on(groups: Collection[str], workload: Workload) -> bool:
    return any(allow.group in groups for allow in workload.allows)


def _lost(before: Workload, after: Workload | None) -> bool:
    if after is before:
        return False
    return after is None or (after.allows is not before.allows and not before.allows <= after.allows)
