"""The store of a single cell, in its SQLite file.

Reads are served from memory, where the file's content is kept until another process writes to it: the reconcile loop asks at
every turn, and gets the same objects while nothing changed. Policies are durable: a policy that was reported as deleted must
not come back after a power loss. Tags are not synced: no packet that carries one outlives the boot.
"""

import base64
import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.rotation import Rotation
from agent.store.changes import Changes
from agent.store.database import NEVER, Database, Version
from agent.store.protocols import StoredPolicy, by_name
from agent.store.refusals import no_such_policy, refuse_credentials
from agent.store.tags import LAST_TAG, Claims, TagChanges, TagClaim, applied, claim, in_use, release, resting

ROOTS = "SELECT key, value FROM meta WHERE key IN ('trust', 'rotation')"


@dataclass(frozen=True, slots=True)
class StoreContent:
    """What the file holds, with all that other processes had written at `version`."""

    version: Version = NEVER
    claims: Claims = field(default_factory=dict)
    tags: Mapping[AppName, int] = field(default_factory=lambda: MappingProxyType({}))
    policies: tuple[StoredPolicy, ...] = ()
    trust: bytes = b""
    rotation: Rotation | None = None


class SqliteStore:
    """A TagStore, PolicyStore and TrustStore on an open Database, which it does not close.

    `last_tag` makes exhaustion cheap in tests.
    """

    def __init__(self, database: Database, *, last_tag: int = LAST_TAG) -> None:
        self.changes = Changes()
        self._database = database
        self._last_tag = last_tag
        self._content = StoreContent()
        self._known()

    async def tags(self) -> Mapping[AppName, int]:
        return self._known().tags

    async def resting_apps(self, *, now: float) -> frozenset[AppName]:
        return resting(self._known().claims, now=now)

    async def claim_tags(self, apps: Collection[AppName], *, now: float) -> Mapping[AppName, int]:
        held = self._known().tags
        if not all(app in held for app in apps):
            self._change_tags(lambda before: claim(before, apps, now=now, last=self._last_tag))
            held = self._content.tags
        return {app: held[app] for app in apps}

    async def release_tags(self, apps: Collection[AppName], *, now: float) -> None:
        self._change_tags(lambda before: release(before, apps, now=now))

    def _change_tags(self, change: Callable[[Claims], TagChanges]) -> None:
        with self._database.transaction(durable=False) as connection:
            before = self._current()
            changes = change(before.claims)
            write_claims(connection, changes)
        self._replace(replace(before, claims=applied(before.claims, changes) if changes else before.claims))

    async def policies(self) -> tuple[StoredPolicy, ...]:
        return self._known().policies

    async def apply_policies(self, policies: Collection[StoredPolicy], *, writer: StoreCredentials | None = None) -> None:
        refuse_credentials(writer)
        new = by_name(policies)
        with self._database.transaction(durable=True) as connection:
            before = self._current()
            rows = [(policy.name, policy.document) for policy in new.values()]
            connection.executemany("INSERT OR REPLACE INTO policies (name, document) VALUES (?, ?)", rows)
        after = by_name(before.policies) | new
        self._replace(replace(before, policies=tuple(after[name] for name in sorted(after))))

    async def delete_policy(self, name: str, *, writer: StoreCredentials | None = None) -> None:
        refuse_credentials(writer)
        with self._database.transaction(durable=True) as connection:
            before = self._current()
            left = tuple(policy for policy in before.policies if policy.name != name)
            if len(left) == len(before.policies):
                raise no_such_policy(name, known=by_name(before.policies))
            connection.execute("DELETE FROM policies WHERE name = ?", (name,))
        self._replace(replace(before, policies=left))

    async def accept_loss(self, *, writer: StoreCredentials | None = None) -> tuple[str, ...]:
        """See PolicyStore. A file that has lost its policies holds none."""
        refuse_credentials(writer)
        return ()

    async def trust(self) -> bytes:
        return self._known().trust

    async def set_trust(self, pem: bytes, *, writer: StoreCredentials | None = None) -> None:
        refuse_credentials(writer)
        with self._database.transaction(durable=True) as connection:
            before = self._current()
            _write_trust(connection, pem)
        self._replace(replace(before, trust=pem))

    async def rotation(self) -> Rotation | None:
        return self._known().rotation

    async def set_rotation(self, rotation: Rotation | None, *, trust: bytes, writer: StoreCredentials | None = None) -> None:
        refuse_credentials(writer)
        with self._database.transaction(durable=True) as connection:
            before = self._current()
            _write_trust(connection, trust)
            connection.execute("DELETE FROM meta WHERE key = 'rotation'")
            if rotation is not None:
                connection.execute("INSERT INTO meta (key, value) VALUES ('rotation', ?)", (_text_of(rotation),))
        self._replace(replace(before, trust=trust, rotation=rotation))

    def _known(self) -> StoreContent:
        """What the file holds; what was read last, where it cannot be read any more."""
        with self._database.kept("store", was_read=self._content.version != NEVER):
            self._content = self._current()
        return self._content

    def _current(self) -> StoreContent:
        """What the file holds, inside a transaction too. Raises HostRefused."""
        version = self._database.foreign_version()
        return self._content if version == self._content.version else self._same_objects(self._read(version))

    def _read(self, version: Version) -> StoreContent:
        tags = self._database.read("SELECT app, tag, released FROM tags")
        claims = {AppName.parse(row["app"]): TagClaim(row["tag"], row["released"]) for row in tags}
        policies = self._database.read("SELECT name, document FROM policies ORDER BY name")
        roots = {row["key"]: row["value"] for row in self._database.read(ROOTS)}
        return StoreContent(
            version,
            claims,
            policies=tuple(StoredPolicy(row["name"], row["document"]) for row in policies),
            trust=base64.b64decode(roots.get("trust", "")),
            rotation=_rotation_of(roots.get("rotation", "")),
        )

    def _same_objects(self, content: StoreContent) -> StoreContent:
        """With its tags in use; what is equal to what was known stays the same object."""
        old = self._content
        tags = old.tags if content.claims is old.claims else in_use(content.claims)
        return replace(
            content,
            tags=old.tags if tags == old.tags else MappingProxyType(tags),
            policies=old.policies if content.policies == old.policies else content.policies,
        )

    def _replace(self, content: StoreContent) -> None:
        """Take what was written, once it is committed."""
        before, after = self._content, self._same_objects(content)
        self._content = after
        if before.tags is not after.tags or before.policies is not after.policies or before.trust != after.trust:
            self.changes.announce()


def _write_trust(connection: sqlite3.Connection, pem: bytes) -> None:
    text = base64.b64encode(pem).decode()
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('trust', ?)", (text,))


def _text_of(rotation: Rotation) -> str:
    return " ".join([rotation.root, *sorted(rotation.former)])


def _rotation_of(text: str) -> Rotation | None:
    root, *former = text.split(" ")
    return Rotation(root, frozenset(former)) if root else None


def write_claims(connection: sqlite3.Connection, changes: TagChanges) -> None:
    """Deletions go first, as no two rows may have the same tag."""
    gone = [(str(app),) for app, held in changes.items() if held is None]
    changed = [(str(app), held.tag, held.released) for app, held in changes.items() if held is not None]
    connection.executemany("DELETE FROM tags WHERE app = ?", gone)
    connection.executemany("INSERT OR REPLACE INTO tags (app, tag, released) VALUES (?, ?, ?)", changed)
