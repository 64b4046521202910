"""A root that takes the place of others: what the store has of it, so that any cell can go on with it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rotation:
    """By fingerprint: `root` comes, `former` go. All roots of both are trusted until no cell signs with one of `former`."""

    root: str
    former: frozenset[str]
