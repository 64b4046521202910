"""Which address the next container gets: never-used ones in order, then the one freed longest ago.

So an address rests as long as it can after its release, as caches and live connections may still mean the old container by
it: none is given again within a minute while another is free, and none is withheld when it is the last. The order is counted,
not timed, because a clock may be put back.
"""

import sqlite3
from ipaddress import IPv4Address, IPv4Network

from agent.errors import Conflict

# Every address that was ever given is in one of the two tables, so none above the highest there has been used.
NEXT_UNUSED = """SELECT max(
  coalesce((SELECT max(address) FROM attachments WHERE address BETWEEN :first AND :last), :first - 1),
  coalesce((SELECT max(address) FROM freed WHERE address BETWEEN :first AND :last), :first - 1)) + 1"""
LONGEST_FREE = "SELECT address FROM freed WHERE address BETWEEN :first AND :last ORDER BY sequence LIMIT 1"


def take(connection: sqlite3.Connection, *, subnet: IPv4Network) -> IPv4Address:
    """An address for the attachment that this transaction writes. Raises Conflict when all are taken.

    Never .0 (the cell's VTEP), .1 (kept for the cell itself) or the broadcast address.
    """
    ends = {"first": int(subnet.network_address) + 2, "last": int(subnet.broadcast_address) - 1}
    (unused,) = connection.execute(NEXT_UNUSED, ends).fetchone()
    if unused <= ends["last"]:
        return IPv4Address(unused)
    freed = connection.execute(LONGEST_FREE, ends).fetchone()
    if freed is None:
        raise Conflict(
            f"no address left in {subnet}",
            hint="detach what is no longer needed (`cellnet ps`), or give cells more with overlay.cell_prefix",
        )
    connection.execute("DELETE FROM freed WHERE address = ?", (freed["address"],))
    return IPv4Address(freed["address"])


def give_back(connection: sqlite3.Connection, address: IPv4Address, *, now: float) -> None:
    """Queue `address` behind all that are free already; `now` (seconds since 1970) is written for readers of the file."""
    connection.execute("INSERT INTO freed (address, released) VALUES (?, ?)", (int(address), now))
