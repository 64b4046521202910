"""The store: what other cells need to know, as small protocols. A user takes those that it needs.

Memory, SQLite (one cell) and etcd (many) implement them, under one contract suite. Methods are coroutines because etcd's wait;
SQLite's run inline, as a local commit is shorter than a thread's hand-over.

Every method raises HostRefused (SQLite) or Unavailable (etcd) where the store cannot answer. Then nothing has changed; but an
etcd that fell silent in the middle of a change may still take it when it goes on. `writer` has the rights with which an
operator's change is written: None is this cell itself. A store without users raises InvalidInput for any other.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from agent.errors import InvalidInput
from agent.model.cell import Cell, CellRecord, Endpoint
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName, Space
from agent.model.rotation import Rotation
from agent.model.routes import Routes
from agent.store.changes import Changes

MOST_CHANGES = 200
MOST_PUBLISHED = 32 << 10
"""Bytes of what a cell publishes of its policy files, some thousand policies: they reach all others."""


@dataclass(frozen=True, slots=True, order=True)
class StoredPolicy:
    """A policy kept as it was written: `document` is text for agent/policy/language/, `name` is unique in the store."""

    name: str
    document: str


class TagStore(Protocol):
    """Which number each app has in the kernel, the same on all cells."""

    changes: Changes

    async def tags(self) -> Mapping[AppName, int]:
        """The tags in use, 1 to 65535. The same object as long as nothing changed."""

    async def resting_apps(self, *, now: float) -> frozenset[AppName]:
        """Those that gave their tags back less than a week ago. `now`: seconds since 1970."""

    async def claim_tags(self, apps: Collection[AppName], *, now: float) -> Mapping[AppName, int]:
        """The tag of each of `apps`, all or none. Raises Conflict when there are not enough. `now`: seconds since 1970."""

    async def release_tags(self, apps: Collection[AppName], *, now: float) -> None:
        """Give tags back; no other app gets them for a week. Those without one, or needed by another cell, are skipped."""


class PolicyStore(Protocol):
    """The policies that hold on all cells."""

    async def policies(self) -> tuple[StoredPolicy, ...]:
        """All policies, by name. The same object as long as nothing changed."""

    async def apply_policies(self, policies: Collection[StoredPolicy], *, writer: StoreCredentials | None = None) -> None:
        """Add or replace by name, all or none. Raises InvalidInput where a name comes twice."""

    async def delete_policy(self, name: str, *, writer: StoreCredentials | None = None) -> None:
        """Raises InvalidInput, with the nearest name, when it is not there."""

    async def accept_loss(self, *, writer: StoreCredentials | None = None) -> tuple[str, ...]:
        """No longer hold, on all cells, the policies that the store has lost. Names those held here."""


class TrustStore(Protocol):
    """The roots that all cells trust besides their own."""

    async def trust(self) -> bytes:
        """The roots (PEM) that the operator has published; empty where there are none."""

    async def set_trust(self, pem: bytes, *, writer: StoreCredentials | None = None) -> None:
        """Publish these in place of the others. Each reader judges what they are worth."""

    async def rotation(self) -> Rotation | None:
        """The rotation of the root that is under way."""

    async def set_rotation(self, rotation: Rotation | None, *, trust: bytes, writer: StoreCredentials | None = None) -> None:
        """Begin a rotation, go on with it or end it (None), and publish these roots: both or neither."""


class CellStore(Protocol):
    """The cells that share a store, and what runs on them."""

    async def claim_subnet(self, cell: str, *, network: IPv4Network, cell_prefix: int, now: float) -> IPv4Network:
        """The cell's own part of `network`, the same at each call. `cell` is its lasting id. Raises Conflict when full.

        That of a removed cell rests for a week, which only that cell itself may end. `now`: seconds since 1970.
        """

    async def announce(self, record: CellRecord) -> None:
        """Write this cell's record, and be alive under it from now on. Repeat it when something in the record changes.

        Raises Conflict where the name is another machine's, which has another id, or the underlay address a living cell's. A
        store that runs writes the record later where it raised Unavailable.
        """

    async def cells(self) -> tuple[Cell, ...]:
        """All cells by name, this one too. The same object as long as nothing changed; being kept alive is no change."""

    async def living(self) -> Mapping[str, CellRecord | None]:
        """By name, every cell that gives a sign of life, with what it says of itself, though that may not hold for others.

        None where that makes no sense.
        """

    async def remove_cell(self, name: str, *, now: float, writer: StoreCredentials | None = None) -> None:
        """Forget a cell that is gone: its record, endpoints and needed apps. Its subnet rests for a week.

        Raises InvalidInput, with the nearest name, where it is not there, Conflict where it is alive.
        """

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        """Publish all that runs on this cell, in place of what was before. Other cells see it once the cell is announced."""

    async def publish_policies(self, policies: bytes) -> None:
        """Publish what this cell's policy files allow, for the others to show, in place of what was before: MOST_PUBLISHED."""

    def published_policies(self) -> Mapping[str, bytes]:
        """What each cell has published of its files. The same object while neither that nor what runs on any cell changes."""

    def endpoints(self) -> Mapping[IPv4Address, Endpoint]:
        """What runs on all cells that are alive. A live view: read it before you wait for anything."""

    def take_departed(self) -> frozenset[IPv4Address]:
        """Addresses of other cells' endpoints that went, or became another app's, since the last call.

        One whose cell was only out of touch, and came back as it was, is among them: it had gone. Compare each with what is
        there now before cutting its flows.
        """


class RouteStore(Protocol):
    """Which names are whose. Other names than apps' own are only taken once they are claimed or mapped here."""

    changes: Changes

    def routes(self) -> Routes:
        """All that hold. The same object as long as nothing changed; in an outage those that were known last."""

    async def claim_route(self, host: str, space: Space) -> None:
        """For an attach: a free name is the space's from now on, until the operator frees it; one that it has already is fine.

        Raises Conflict, which names the space, where another has it or one above or below; InvalidInput for a name that is
        no route. In an outage a free one is refused, as it may be taken.
        """

    async def map_route(self, host: str, app: AppName, *, writer: StoreCredentials | None = None) -> None:
        """The operator gives it to each running instance of `app`, beside other apps of its space.

        Other spaces' claims to it, above it and below it end. Raises Conflict where the operator has given one of these to
        another space, InvalidInput for a name that is no route.
        """

    async def unmap_route(self, host: str, app: AppName | None = None, *, writer: StoreCredentials | None = None) -> None:
        """The operator takes it from `app`, also where that asked for it at attach; the space keeps the name.

        Without `app`: the name is free, whichever space or app (`claim_names`) had it. Raises NotFound where it is not there,
        or not the app's.
        """

    async def claim_names(self, names: Mapping[str, AppName]) -> None:
        """For names that two apps could have: each is the app's that claims it first. That another has it is no error."""

    def claimed_names(self) -> Mapping[str, AppName]:
        """Whose each is. The same object as long as nothing changed."""


class IndexStore(Protocol):
    """Which number each instance of an app has, over all cells."""

    async def claim_index(self, app: AppName, *, name: str, wanted: int | None, avoid: Collection[int]) -> int:
        """The lowest that no instance has and that is not in `avoid`, or `wanted`, for the attachment `name` of this cell.

        Raises Conflict where another has `wanted`. In an outage the lowest that is known to be free: it is claimed afterwards,
        and one that another cell has taken meanwhile is a problem of the store.
        """

    async def release_index(self, app: AppName, index: int, *, name: str) -> None:
        """Give it back; one that is another attachment's is left alone. Raises nothing: in an outage it is done afterwards."""

    def set_reserved(self, indexes: Mapping[tuple[AppName, int], str]) -> None:
        """These are kept for attachments of this cell, by their names, whether they run or not; no others any more."""

    def claimant(self, app: AppName, index: int) -> str | None:
        """The cell that has claimed a number, whether that holds or not; None where none has, or no other cell could."""

    def take_claimed(self) -> frozenset[tuple[AppName, int]]:
        """The numbers that another cell, or none, has claimed since the last call."""


class SummaryStore(Protocol):
    """What each cell says of its last minute. It is read only when asked for, and nothing follows it."""

    async def publish_summary(self, data: bytes) -> None:
        """This cell's, in place of its last one; it goes when the cell is not alive. The same again is not written."""

    async def summaries(self) -> Mapping[str, bytes]:
        """All cells', by name. What they are worth is the reader's to judge: each was written by another machine."""


class QuestionStore(Protocol):
    """What cells ask each other for `explain`, gone after seconds. Each judges what it reads: another machine wrote it."""

    async def ask(self, cell: str, data: bytes) -> None:
        """A question of this cell to another, in place of its last one."""

    async def answer_of(self, cell: str) -> bytes | None:
        """What another cell has answered last, to whichever question."""

    def questions(self) -> AsyncIterator[tuple[str, bytes]]:
        """Those to this cell as they come, by who says that it asks. Raises Unavailable once the store does not answer."""

    async def answer(self, cell: str, data: bytes) -> None:
        """This cell's answer to another."""


class TrailStore(Protocol):
    """Who changed which policies of the store: the newest MOST_CHANGES of it, as the callers have written them."""

    async def add_change(self, data: bytes, *, writer: StoreCredentials | None = None) -> None:
        """One more, after the others; the oldest go."""

    async def changes(self) -> Sequence[bytes]:
        """All that are kept, the oldest first."""


class SharedStore(Protocol):
    """What a store of many cells can do besides."""

    async def catch_up(self) -> None:
        """Know by the end of this what any cell had changed before it. Raises Unavailable where the store does not answer."""

    async def await_return(self) -> None:
        """In an outage that may be over already: two seconds for its end to be noticed. For what an operator waits for."""
        ...

    async def refer(self, apps: Collection[AppName]) -> None:
        """Publish which apps this cell needs: as long as any cell needs one, its tag is not given back."""


def by_name(policies: Iterable[StoredPolicy]) -> dict[str, StoredPolicy]:
    """Name -> policy. Raises InvalidInput where a name comes twice, as it would not be clear which one is meant."""
    found: dict[str, StoredPolicy] = {}
    for policy in policies:
        if policy.name in found:
            raise InvalidInput(f"two policies are named '{policy.name}'", hint="give each a name of its own")
        found[policy.name] = policy
    return found
