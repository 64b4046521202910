"""The store of a single cell, in its SQLite file.

Reads are served from the last rows read, which hold as long as the file's version does: the reconcile loop asks at every
turn, and gets the same objects while nothing changed. Policies are durable: what a user was told has happened (a policy
deleted, above all) must not be undone by a power loss. Tags are not synced: no packet that carries one outlives the boot.
"""

import base64
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from agent.errors import HostRefused
from agent.model.cell import Cell, CellRecord, Endpoint
from agent.model.names import AppName
from agent.store import subnets
from agent.store.changes import Changes
from agent.store.database import NEVER, Database, Version
from agent.store.lone_cell import Alone
from agent.store.protocols import Listener, StoredPolicy, by_name, no_such_policy
from agent.store.subnets import SubnetClaim
from agent.store.tags import LAST_TAG, Claims, TagClaim, claim


@dataclass(frozen=True, slots=True)
class Records:
    """What the file held at one version of it."""

    version: Version
    tags: Mapping[AppName, int]
    policies: tuple[StoredPolicy, ...]
    trust: bytes = b""


class SqliteStore:
    """A Store on an open Database, which it does not close. `last_tag` makes exhaustion cheap to reach in tests."""

    def __init__(self, database: Database, *, last_tag: int = LAST_TAG, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._last_tag = last_tag
        self._changes = Changes()
        self._alone = Alone(clock=clock, changed=self._changes.announce)
        self._records = Records(NEVER, MappingProxyType({}), ())
        self._fresh()

    @property
    def revision(self) -> int:
        """See Store."""
        return self._changes.revision

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """See Store."""
        return self._changes.subscribe(listener)

    async def catch_up(self) -> None:
        """See Store. There is no other cell."""

    async def tags(self) -> Mapping[AppName, int]:
        """See Store."""
        return self._fresh().tags

    async def claim_tags(self, apps: Collection[AppName], *, now: float) -> Mapping[AppName, int]:
        """See Store."""
        held = self._fresh().tags
        if not all(app in held for app in apps):
            with self._database.transaction(durable=False) as connection:
                if not claim_simply(connection, apps, now=now, last=self._last_tag):
                    before = read_claims(connection)
                    write_claims(connection, before, claim(before, apps, now=now, last=self._last_tag))
            held = self._announced().tags
        return {app: held[app] for app in apps}

    async def release_tags(self, apps: Collection[AppName], *, now: float) -> None:
        """See Store."""
        with self._database.transaction(durable=False) as connection:
            gone = [(now, str(app)) for app in apps]
            connection.executemany("UPDATE tags SET released = ? WHERE app = ? AND released IS NULL", gone)
        self._announced()

    async def refer(self, apps: Collection[AppName]) -> None:
        """See Store. There is no other cell."""

    async def policies(self) -> tuple[StoredPolicy, ...]:
        """See Store."""
        return self._fresh().policies

    async def apply_policies(self, policies: Collection[StoredPolicy]) -> None:
        """See Store."""
        rows = [(policy.name, policy.document) for policy in by_name(policies).values()]
        with self._database.transaction(durable=True) as connection:
            connection.executemany("INSERT OR REPLACE INTO policies (name, document) VALUES (?, ?)", rows)
        self._announced()

    async def delete_policy(self, name: str) -> None:
        """See Store."""
        with self._database.transaction(durable=True) as connection:
            if connection.execute("DELETE FROM policies WHERE name = ?", (name,)).rowcount == 0:
                known = [row["name"] for row in connection.execute("SELECT name FROM policies")]
                raise no_such_policy(name, known=known)
        self._announced()

    async def accept_loss(self) -> tuple[str, ...]:
        """See Store. What is lost here is lost for good."""
        return ()

    async def claim_subnet(self, cell: str, *, network: IPv4Network, cell_prefix: int, now: float) -> IPv4Network:
        """See Store."""
        mine = subnets.held(self._subnets(), cell, network=network, cell_prefix=cell_prefix)
        if mine is not None:
            return mine  # a start must not need a disk with room
        with self._database.transaction(durable=True) as connection:
            mine = subnets.choose(self._subnets(), cell, network=network, cell_prefix=cell_prefix, now=now)
            connection.execute("INSERT OR REPLACE INTO subnets (cell, subnet) VALUES (?, ?)", (cell, str(mine)))
        self._changes.announce()
        return mine

    def _subnets(self) -> subnets.Claims:
        rows = self._database.read("SELECT cell, subnet FROM subnets")
        return {IPv4Network(row["subnet"]): SubnetClaim(row["cell"]) for row in rows}

    async def announce(self, record: CellRecord) -> None:
        """See Store."""
        self._alone.announce(record)

    async def cells(self) -> tuple[Cell, ...]:
        """See Store."""
        return self._alone.cells

    async def remove_cell(self, name: str, *, now: float) -> None:
        """See Store."""
        self._alone.refuse_to_remove(name)

    async def publish(self, endpoints: Collection[Endpoint]) -> None:
        """See Store."""
        self._alone.publish(endpoints)

    def endpoints(self) -> Mapping[IPv4Address, Endpoint]:
        """See Store."""
        return self._alone.endpoints

    def take_departed(self) -> frozenset[IPv4Address]:
        """See Store. There is no other cell."""
        return frozenset()

    async def trust(self) -> bytes:
        """See Store."""
        return self._fresh().trust

    async def set_trust(self, pem: bytes) -> None:
        """See Store."""
        with self._database.transaction(durable=True) as connection:
            text = base64.b64encode(pem).decode()
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('trust', ?)", (text,))
        self._announced()

    def _fresh(self) -> Records:
        """What the file holds; what was read last, where it cannot be read any more."""
        problem = None
        try:
            version = self._database.version()
            if version != self._records.version:
                self._records = self._reread(version)
        except HostRefused as error:
            if self._records.version == NEVER:
                raise
            problem = error
        self._database.note_read("store", problem)
        return self._records

    def _reread(self, version: Version) -> Records:
        rows = self._database.read("SELECT app, tag FROM tags WHERE released IS NULL")
        in_use = {AppName.parse(row["app"]): int(row["tag"]) for row in rows}
        found = self._database.read("SELECT name, document FROM policies ORDER BY name")
        policies = tuple(StoredPolicy(row["name"], row["document"]) for row in found)
        trust = self._database.read("SELECT value FROM meta WHERE key = 'trust'")
        old = self._records  # the ledger writes to the same file: equal records stay the same objects
        return Records(
            version,
            old.tags if old.tags == in_use else MappingProxyType(in_use),
            old.policies if old.policies == policies else policies,
            base64.b64decode(trust[0]["value"]) if trust else b"",
        )

    def _announced(self) -> Records:
        before, after = self._records, self._fresh()
        if before.tags is not after.tags or before.policies is not after.policies or before.trust != after.trust:
            self._changes.announce()
        return after


def claim_simply(connection: sqlite3.Connection, apps: Collection[AppName], *, now: float, last: int) -> bool:
    """What `tags.claim` would do, without reading the tags of all apps that ever were. False, and nothing done, where that does
    not suffice: numbers below the highest are free, or there are not enough above it."""
    used, highest = connection.execute("SELECT count(*), coalesce(max(tag), 0) FROM tags").fetchone()
    known = {app for app in apps if connection.execute("SELECT 1 FROM tags WHERE app = ?", (str(app),)).fetchone()}
    new = sorted(set(apps) - known)
    if used != highest or highest + len(new) > last:
        return False
    connection.execute("UPDATE tags SET released = ? WHERE released > ?", (now, now))
    connection.executemany("UPDATE tags SET released = NULL WHERE app = ?", [(str(app),) for app in known])
    rows = [(str(app), tag) for tag, app in enumerate(new, start=highest + 1)]
    connection.executemany("INSERT INTO tags (app, tag) VALUES (?, ?)", rows)
    return True


def read_claims(connection: sqlite3.Connection) -> dict[AppName, TagClaim]:
    """Every tag that an app has or had."""
    rows = connection.execute("SELECT app, tag, released FROM tags")
    return {AppName.parse(row["app"]): TagClaim(row["tag"], row["released"]) for row in rows}


def write_claims(connection: sqlite3.Connection, before: Claims, after: Claims) -> None:
    """Only what differs; those who lost their tag go first, as no two rows may have the same."""
    gone = [(str(app),) for app in before if app not in after]
    changed = [(str(app), held.tag, held.released) for app, held in after.items() if before.get(app) != held]
    connection.executemany("DELETE FROM tags WHERE app = ?", gone)
    connection.executemany("INSERT OR REPLACE INTO tags (app, tag, released) VALUES (?, ?, ?)", changed)
