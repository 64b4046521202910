"""The store: what other cells need to know. Memory, SQLite (one cell) and etcd (many) stand behind it, under one test suite.

Methods are coroutines because etcd's will wait; SQLite's run inline, as a local commit is shorter than a thread's hand-over.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from agent.errors import Conflict, InvalidInput
from agent.model.cell import Cell, CellRecord, Endpoint
from agent.model.names import AppName
from agent.wording import did_you_mean

Listener = Callable[[], None]


@dataclass(frozen=True, slots=True, order=True)
class StoredPolicy:
    """A policy kept as it was written: `document` is text for agent/policy/language.py, `name` is unique in the store."""

    name: str
    document: str


class Store(Protocol):
    """Raises HostRefused (SQLite) or Unavailable (etcd) where the store cannot answer.

    Then nothing has changed; but an etcd that fell silent in the middle of a change may still take it when it goes on.
    """

    @property
    def revision(self) -> int:
        """Grows with each change seen by this process; read it before the records to know what they include."""
        ...

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called after each change (it must only wake somebody). Returns what ends it."""
        ...

    async def catch_up(self) -> None:
        """Know by the end of this what any cell had changed before it. Raises Unavailable where nobody can tell."""
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

    async def accept_loss(self) -> tuple[str, ...]:
        """Let go, on all cells, of the policies that are held since the store lost its data. Names those held here."""
        ...

    async def claim_subnet(self, cell: str, *, network: IPv4Network, cell_prefix: int, now: float) -> IPv4Network:
        """The cell's own part of `network`, the same at each call. `cell` is its lasting id. Raises Conflict when full.

        That of a removed cell rests for a week, which only that cell itself may end. `now`: seconds since 1970.
        """
        ...

    async def announce(self, record: CellRecord) -> None:
        """Write this cell's record, and be alive under it from now on. Repeat it when something in the record changes.

        Raises Conflict where the name is another machine's, which has another id, or the underlay address a living cell's. What
        a store that does not answer (Unavailable) could not be told is told it when it does, where something runs beside it.
        """
        ...

    async def cells(self) -> tuple[Cell, ...]:
        """All cells by name, this one too. The same object as long as nothing changed; being kept alive is no change."""
        ...

    async def remove_cell(self, name: str, *, now: float) -> None:
        """Forget a cell that is gone: its record, endpoints and needed apps. Its subnet rests for a week.

        Raises InvalidInput, with the nearest name, where it is not there, Conflict where it is alive.
        """
        ...

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        """Tell all that runs on this cell, in place of what was told before. It is there for the others once `announce` was."""
        ...

    def endpoints(self) -> Mapping[IPv4Address, Endpoint]:
        """What runs on all cells that are alive. A live view: read it before you wait for anything."""
        ...

    def take_departed(self) -> frozenset[IPv4Address]:
        """Addresses of other cells' endpoints that went, or became another app's, since the last call.

        One whose cell was only out of touch, and came back as it was, is among them: it had gone. Whoever cuts flows by this
        judges them first by what is there now.
        """
        ...

    async def trust(self) -> bytes:
        """The roots (PEM) that the operator has put there for all cells; empty where there are none."""
        ...

    async def set_trust(self, pem: bytes) -> None:
        """Put these there in place of the others. What they are worth is for whoever reads them to judge."""
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
    hint = did_you_mean(name, known, otherwise="`cellnet policy list` shows what there is")
    return InvalidInput(f"there is no policy '{name}' in the store", hint=hint)


def no_such_cell(name: str, *, known: Iterable[str]) -> InvalidInput:
    """The error for a cell that is not there, with the nearest one that is."""
    hint = did_you_mean(name, known, otherwise="`cellnet cell list` shows those there are")
    return InvalidInput(f"there is no cell '{name}' in the store", hint=hint)


def still_alive(name: str) -> Conflict:
    """The error for the removal of a cell that is there."""
    return Conflict(f"cell {name} is alive", hint="stop its agent first; 30 seconds later it can be removed")


def another_machine(held: CellRecord) -> Conflict:
    """The error for a name that another machine has."""
    return Conflict(
        f"cell {held.name} is another machine (id {held.id[:12]}, underlay {held.underlay})",
        hint=f"give this one another name in agent.yaml, or `cellnet cell remove {held.name}` if that machine is gone",
    )


def same_id(held: CellRecord) -> Conflict:
    """The error for a machine that has a living cell's id, and another address."""
    return Conflict(
        f"this cell's id is that of cell {held.name}, which is alive at {held.underlay}",
        hint="if this machine is a copy of that one, remove /var/lib/cellnet from it; if it is the same at another address, "
        "wait half a minute",
    )


def same_underlay(held: CellRecord) -> Conflict:
    """The error for an address that a living cell has."""
    return Conflict(
        f"cell {held.name} is alive behind the same underlay address {held.underlay}",
        hint="each cell needs an address of its own: look at underlay.address in agent.yaml",
    )
