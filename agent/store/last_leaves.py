"""Until when certificates name an address: the last app that one was issued to there, and when the last of all of them ends.

A certificate and the address that it carries prove together who calls, so a copy of a key would pass for whichever app has
the address next. An end is the certificate's own; the clock by which it is judged may have been set meanwhile.
"""

import sqlite3
from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class ClockBounds:
    """The earliest and the latest that it may be now (seconds since 1970), whatever has been done to the clock."""

    earliest: float
    latest: float


@dataclass(frozen=True, slots=True)
class LastLeaf:
    """`issued` is when the last one was issued, `ends` when the last one ends, in seconds since 1970.

    `app` is empty where an earlier version of cellnet did not write it down.
    """

    app: str
    issued: float
    ends: float

    def after(self, before: "LastLeaf | None") -> "LastLeaf":
        """What is to be remembered when this one is issued, which may end before one of before does."""
        return self if before is None else LastLeaf(self.app, self.issued, max(self.ends, before.ends))


def write(connection: sqlite3.Connection, address: IPv4Address, leaf: LastLeaf) -> None:
    """In place of what was remembered."""
    values = (int(address), leaf.app, leaf.issued, leaf.ends)
    connection.execute("INSERT OR REPLACE INTO last_leaves (address, app, issued, ends) VALUES (?, ?, ?, ?)", values)


def judge(connection: sqlite3.Connection, now: ClockBounds) -> None:
    """Those of the future were issued while the clock was wrong: their lives are counted from now, or would last for years."""
    connection.execute("UPDATE last_leaves SET ends = ends - issued + ?1, issued = ?1 WHERE issued > ?1", (now.latest,))
