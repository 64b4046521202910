"""Which address the next container gets: never-used ones in order, then the one freed longest ago.

So an address rests as long as it can after its release, as caches and live connections may still mean the old container by
it: none is given again within a minute while another is free, and none is withheld when it is the last. The order is counted,
not timed, because a clock may be put back.

Where certificates prove who calls, an address also waits for the end of the last one that names it, before another app gets
it. Its own app gets it at once, and before one that was never used: those are left for apps that have none of their own.
"""

import sqlite3
from ipaddress import IPv4Address, IPv4Network

from agent.errors import Conflict
from agent.store.last_leaves import ClockBounds

REST = 60.0  # seconds
# Every address that was ever given is in one of these tables, so none above the highest there has been used.
NEXT_UNUSED = """SELECT address FROM (SELECT max(
  coalesce((SELECT max(address) FROM attachments WHERE address BETWEEN :first AND :last), :first - 1),
  coalesce((SELECT max(address) FROM reservations WHERE address BETWEEN :first AND :last), :first - 1),
  coalesce((SELECT max(address) FROM freed WHERE address BETWEEN :first AND :last), :first - 1)) + 1 AS address)
  WHERE address <= :last"""
LONGEST_FREE = "SELECT address FROM freed WHERE address BETWEEN :first AND :last ORDER BY sequence LIMIT 1"
WANTED = """SELECT address FROM freed LEFT JOIN last_leaves USING (address)
  WHERE address = :wanted AND address BETWEEN :first AND :last AND (app IS NULL OR app = :app)"""
OWN_RESTED = """SELECT address FROM freed JOIN last_leaves USING (address)
  WHERE address BETWEEN :first AND :last AND app = :app AND released <= :rested ORDER BY sequence LIMIT 1"""
UNNAMED = """SELECT address FROM freed LEFT JOIN last_leaves USING (address)
  WHERE address BETWEEN :first AND :last AND (app IS NULL OR app = :app OR ends <= :now) ORDER BY sequence LIMIT 1"""
GIVE_BACK = """INSERT INTO freed (address, released) SELECT :address, :now
  WHERE :address NOT IN (SELECT address FROM attachments)
  AND :address NOT IN (SELECT address FROM reservations WHERE address IS NOT NULL)"""


def take(
    connection: sqlite3.Connection,
    *,
    subnet: IPv4Network,
    app: str,
    proving: ClockBounds | None,
    wanted: IPv4Address | None = None,
) -> IPv4Address:
    """An address for the attachment or the reservation that this transaction writes. Raises Conflict when all are taken.

    Never .0 (the cell's VTEP), .1 (kept for the cell itself) or the broadcast address. `proving`: certificates prove who calls,
    and it is now; where every free address is named by another app's, the one freed longest ago is given all the same. `wanted`
    is what the same container had a moment ago: it is its own again where it is free and no other app's has been there.
    """
    values: dict[str, int | str | float] = {
        "first": int(subnet.network_address) + 2, "last": int(subnet.broadcast_address) - 1, "app": app,
    }  # fmt: skip
    queries = [NEXT_UNUSED, LONGEST_FREE]
    if proving is not None:
        values |= {"now": proving.earliest, "rested": proving.earliest - REST}
        queries = [OWN_RESTED, NEXT_UNUSED, UNNAMED, LONGEST_FREE]
    if wanted is not None:
        values["wanted"], queries = int(wanted), [WANTED, *queries]
    for query in queries:
        found = connection.execute(query, values).fetchone()
        if found is not None:
            connection.execute("DELETE FROM freed WHERE address = ?", (found["address"],))
            return IPv4Address(found["address"])
    raise Conflict(
        f"no address left in {subnet}",
        hint="detach or release what is no longer needed (`cellnet ps`, `cellnet reservations`), or give cells more with "
        "overlay.cell_prefix",
    )


def give_back(connection: sqlite3.Connection, address: IPv4Address, *, now: float) -> None:
    """Queue `address` behind all that are free already, unless an attachment or a reservation has it still.

    `now` (seconds since 1970) is written for readers of the file.
    """
    connection.execute(GIVE_BACK, {"address": int(address), "now": now})
