"""A process that works on a cell's database until it is killed: `python -m tests.testlib.stores.ledger_steps PATH SEED [WORD]`.

Each step is one transaction and follows from the seed and from what the file holds, so that a test can replay the first
N of them elsewhere and compare. A line is printed after each step that has returned.
"""

import asyncio
import sqlite3
import sys
from ipaddress import IPv4Network
from pathlib import Path
from random import Random

from agent.model.attachment import Phase
from agent.store.database import Database
from agent.store.ledger import Ledger
from agent.store.protocols import StoredPolicy
from agent.store.sqlite import SqliteStore
from tests.testlib.samples import OWNER, app, request

SUBNET = IPv4Network("10.255.1.0/26")
TABLES = ("attachments", "freed", "tags", "policies", "meta")


def step(database: Database, random: Random, number: int) -> None:
    """One transaction on the ledger or the store."""
    ledger, store = Ledger(database), SqliteStore(database)
    held = ledger.all()
    choice = random.random()
    if choice < 0.15:
        asyncio.run(store.apply_policies([StoredPolicy(f"p{number % 7}", f"{number}"), StoredPolicy("all", f"{number}")]))
    elif choice < 0.25:
        asyncio.run(store.claim_tags([app(f"a{number}"), app(f"b{number}")], now=float(number)))
    elif choice < 0.6 and len(held) < 50:
        ledger.begin(request(f"n{number}", of=f"a{number % 5}"), owner=OWNER)
    elif held:
        advance(ledger, random.choice(held).name, now=float(number))


def advance(ledger: Ledger, name: str, *, now: float) -> None:
    """To the attachment's next phase."""
    held = ledger.get(name)
    if held is None or held.phase is Phase.DETACHING:
        ledger.finish_detach(name, now=now)
    elif held.phase is Phase.ATTACHING:
        ledger.complete(name)
    else:
        ledger.begin_detach(name)


def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, but for the GUIDs, which no two runs have alike."""
    return {table: sorted(_without_guid(row) for row in database.read(f"SELECT * FROM {table}")) for table in TABLES}


def _without_guid(row: sqlite3.Row) -> tuple[object, ...]:
    return tuple(row[name] for name in row.keys() if name != "guid")  # noqa: SIM118 -- a row's own iteration gives values


def race(path: Path, word: str) -> None:
    """Attach forty containers of one app, beside another process that does the same, and detach every third."""
    database = Database(path, patience=30)
    ledger, store = Ledger(database), SqliteStore(database)
    ledger.adopt_subnet(IPv4Network("10.255.1.0/24"))
    for number in range(40):
        ledger.begin(request(f"{word}{number}"), owner=OWNER)
        asyncio.run(store.claim_tags([app(f"{word}{number}"), app("both")], now=1.0))
        if number % 3 == 0:
            ledger.begin_detach(f"{word}{number}")
            ledger.finish_detach(f"{word}{number}", now=1.0)


def main() -> None:
    """Steps for ever, or the race where a WORD is given."""
    path = Path(sys.argv[1])
    if len(sys.argv) > 3:
        race(path, sys.argv[3])
        return
    database, random, number = Database(path), Random(int(sys.argv[2])), 0
    Ledger(database).adopt_subnet(SUBNET)
    while True:
        print(number, flush=True)
        step(database, random, number)
        number += 1


if __name__ == "__main__":
    main()
