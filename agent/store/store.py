"""The store: what other cells need to know. Memory, SQLite (one cell) and later etcd stand behind it, under one contract suite.

Methods are coroutines because etcd's will wait; SQLite's run inline, as a local commit is shorter than a thread's hand-over.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Protocol

from agent.errors import InvalidInput
from agent.model.names import AppName

Listener = Callable[[], None]


@dataclass(frozen=True, slots=True, order=True)
class StoredPolicy:
    """A policy kept as it was written: `document` is text for agent/policy/language.py, `name` is unique in the store."""

    name: str
    document: str


class Store(Protocol):
    """Raises HostRefused (SQLite) or Unavailable (etcd) where the store cannot answer; then nothing has changed."""

    @property
    def revision(self) -> int:
        """Grows with each change seen by this process; read it before the records to know what they include."""
        ...

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called after each change (it must only wake somebody). Returns what ends it."""
        ...

    async def tags(self) -> Mapping[AppName, int]:
        """The tags in use, 1 to 65535. The same object as long as nothing changed."""
        ...

    async def claim_tags(self, apps: Collection[AppName], *, now: float) -> Mapping[AppName, int]:
        """The tag of each of `apps`, all or none. Raises Conflict when there are not enough. `now`: seconds since 1970."""
        ...

    async def release_tags(self, apps: Collection[AppName], *, now: float) -> None:
        """Give tags back; nobody else gets them for a week. Those without one, or needed by another cell, are passed over."""
        ...

    async def refer(self, apps: Collection[AppName]) -> None:
        """Tell which apps this cell needs: as long as any cell needs one, its tag is not given back."""
        ...

    async def policies(self) -> tuple[StoredPolicy, ...]:
        """All policies, by name. The same object as long as nothing changed."""
        ...

    async def apply_policies(self, policies: Collection[StoredPolicy]) -> None:
        """Add or replace by name, all or none. Raises InvalidInput where a name comes twice."""
        ...

    async def delete_policy(self, name: str) -> None:
        """Raises InvalidInput, with the nearest name, when it is not there."""
        ...

    async def claim_subnet(self, cell: str, *, network: IPv4Network, cell_prefix: int) -> IPv4Network:
        """The cell's own part of `network`, the same at each call. `cell` is its lasting id. Raises Conflict when full."""
        ...


def by_name(policies: Iterable[StoredPolicy]) -> dict[str, StoredPolicy]:
    """Name -> policy. Raises InvalidInput where a name comes twice, as it would not be clear which one is meant."""
    found: dict[str, StoredPolicy] = {}
    for policy in policies:
        if policy.name in found:
            raise InvalidInput(f"two policies are named '{policy.name}'", hint="give each a name of its own")
        found[policy.name] = policy
    return found


def no_such_policy(name: str, *, known: Iterable[str]) -> InvalidInput:
    """The error for a name that is not there, with the nearest one that is."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`cellnet policy list` shows what there is"
    return InvalidInput(f"there is no policy '{name}' in the store", hint=hint)
