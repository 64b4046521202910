"""The one SQLite schema of a cell: the store's tables and the ledger's, in one file `cellnet.db`.

A change of the schema is a new entry at the end of MIGRATIONS, never an edit of an old one: `user_version` counts them.
"""

import sqlite3

APPLICATION_ID = 0x634E4554  # "cNET": distinguishes the file from another program's database

Migration = tuple[str, ...]

MIGRATIONS: tuple[Migration, ...] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        # The store: what other cells would need.
        """CREATE TABLE tags (
             app TEXT PRIMARY KEY, tag INTEGER NOT NULL UNIQUE CHECK (tag BETWEEN 1 AND 65535), released REAL) STRICT""",
        "CREATE TABLE policies (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT",
        "CREATE TABLE subnets (cell TEXT PRIMARY KEY, subnet TEXT NOT NULL UNIQUE) STRICT",
        # The ledger: this cell's own. The constraints repeat what the code promises.
        """CREATE TABLE attachments (
             name TEXT PRIMARY KEY, app TEXT NOT NULL, instance INTEGER NOT NULL, address INTEGER NOT NULL UNIQUE,
             interface TEXT NOT NULL, ports TEXT NOT NULL, routes TEXT NOT NULL, tls_target INTEGER NOT NULL,
             tls_http INTEGER NOT NULL, owner TEXT NOT NULL, phase TEXT NOT NULL, UNIQUE (app, instance)) STRICT""",
        # Order of release is a number, not the time: a clock may be put back. AUTOINCREMENT never gives one twice.
        """CREATE TABLE freed (
             sequence INTEGER PRIMARY KEY AUTOINCREMENT, address INTEGER NOT NULL UNIQUE, released REAL NOT NULL) STRICT""",
    ),
    # Tags rest for a week: of the apps that ever were, few are there.
    ("CREATE INDEX tags_by_release ON tags (released, app, tag)",),
    (  # what an etcd held when it last answered
        """CREATE TABLE shared (
             key TEXT PRIMARY KEY, data BLOB NOT NULL, revision INTEGER NOT NULL, lease INTEGER NOT NULL) STRICT""",
    ),
    (  # what stays in force though that etcd has lost it; without data: what stays out
        """CREATE TABLE held (
             key TEXT PRIMARY KEY, data BLOB, revision INTEGER NOT NULL, lease INTEGER NOT NULL) STRICT""",
    ),
    (  # which user of the host reads an instance's key
        "ALTER TABLE attachments ADD COLUMN key_uid INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attachments ADD COLUMN key_gid INTEGER",
    ),
    (  # until when certificates name an address; those of before live for a day, unless configured otherwise
        """CREATE TABLE last_leaves (
             address INTEGER PRIMARY KEY, app TEXT NOT NULL, issued REAL NOT NULL, ends REAL NOT NULL) STRICT""",
        "INSERT INTO last_leaves SELECT address, '', released, released + 86400 FROM freed",
    ),
    (  # what an instance's environment says of it: those that are there already get an id, too
        "ALTER TABLE attachments ADD COLUMN guid TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE attachments ADD COLUMN services TEXT NOT NULL DEFAULT '[]'",
        """UPDATE attachments SET guid = lower(
             hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-'
             || substr('89ab', 1 + (abs(random()) % 4), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))""",
    ),
    (  # names that are not an app's own; `apps` and `without` are JSON
        """CREATE TABLE routes (
             host TEXT PRIMARY KEY, space TEXT NOT NULL, apps TEXT NOT NULL, by_operator INTEGER NOT NULL,
             without TEXT NOT NULL) STRICT""",
        "CREATE TABLE names (name TEXT PRIMARY KEY, app TEXT NOT NULL) STRICT",
    ),
    (  # which revision made each record of an etcd; and whose names are that etcd's records say otherwise of
        "ALTER TABLE shared ADD COLUMN created INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE held ADD COLUMN created INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE first_claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) STRICT",
    ),
    # the name for `ip netns` of a namespace that has a resolv.conf of ours
    ("ALTER TABLE attachments ADD COLUMN netns_name TEXT NOT NULL DEFAULT ''",),
    # apps that have their tags before they ever ran
    ("CREATE TABLE declared_apps (app TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",),
    (  # the routes of what is attached already are its space's (rtrim leaves org/space of org/space/app)
        """INSERT OR IGNORE INTO routes SELECT each.value, rtrim(rtrim(app, replace(app, '/', '')), '/'), '[]', 0, '[]'
             FROM attachments, json_each(attachments.routes) AS each WHERE ltrim(each.value, '0123456789') NOT LIKE '.%'
             ORDER BY name""",
    ),
    # what an attachment may take at most, JSON; of a row without any none
    ("ALTER TABLE attachments ADD COLUMN limits TEXT NOT NULL DEFAULT '{}'",),
    # ports of the host that lead to it, as they are written (JSON)
    ("ALTER TABLE attachments ADD COLUMN publish TEXT NOT NULL DEFAULT '[]'",),
    # what containers of engines will be, by their names (JSON)
    ("CREATE TABLE reservations (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT, WITHOUT ROWID",),
    (  # the address that each keeps, which its document has too; of earlier ones none
        "ALTER TABLE reservations ADD COLUMN address INTEGER",
        "CREATE UNIQUE INDEX reserved_addresses ON reservations (address)",
    ),
    # who changed which policies of the store (JSON), the newest
    ("CREATE TABLE policy_changes (sequence INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL) STRICT",),
)


def version_of(connection: sqlite3.Connection) -> int:
    """How many migrations the file has seen."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def is_ours(connection: sqlite3.Connection) -> bool:
    """Whether the file was made by cellnet at all."""
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    return bool(found == APPLICATION_ID)


def migrate(connection: sqlite3.Connection, *, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Bring the file to the newest version, in one transaction: all or nothing, whatever other process tries the same."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in migrations[version_of(connection) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(len(migrations), version_of(connection))}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def blank() -> bytes:
    """A new database file with the newest schema, as bytes, so that it can be put in place whole."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection)
        return connection.serialize()
    finally:
        connection.close()
