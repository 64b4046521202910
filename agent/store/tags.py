"""Which app gets which tag: one pure rule for every store.

A tag is the source of a packet as the kernel sees it, so a number must not pass to another app while a rule, a packet
or another cell may still mean the old one by it: never-used numbers first, given-back ones only after a week.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from agent.errors import Conflict
from agent.model.names import AppName

LAST_TAG = 65535
REST = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class TagClaim:
    """An app's number; `released` is when it was given back (seconds since 1970), None while in use."""

    tag: int
    released: float | None = None


Claims = Mapping[AppName, TagClaim]


def in_use(claims: Claims) -> dict[AppName, int]:
    """App -> tag, of those not given back."""
    return {app: claim.tag for app, claim in claims.items() if claim.released is None}


def claim(claims: Claims, apps: Iterable[AppName], *, now: float, last: int = LAST_TAG) -> dict[AppName, TagClaim]:
    """All claims after `apps` have got theirs; an app that comes back gets its old tag. Raises Conflict when none is left."""
    after = {app: not_after(held, now=now) for app, held in claims.items()}
    wanted = sorted(set(apps))
    after.update({app: replace(after[app], released=None) for app in wanted if app in after})
    new = [app for app in wanted if app not in after]
    free = free_tags(after, now=now, last=last, count=len(new))
    if len(free) < len(new):
        raise exhausted(claims, new[len(free)], last=last)
    taken = frozenset(free)
    kept = {app: held for app, held in after.items() if held.tag not in taken}
    return kept | {app: TagClaim(tag) for app, tag in zip(new, free, strict=True)}


def release(claims: Claims, apps: Iterable[AppName], *, now: float) -> dict[AppName, TagClaim]:
    """All claims after `apps` have given theirs back; one given back before keeps its time."""
    leaving = [app for app in set(apps) if app in claims and claims[app].released is None]
    return dict(claims) | {app: replace(claims[app], released=now) for app in leaving}


def free_tags(claims: Claims, *, now: float, last: int, count: int) -> list[int]:
    """Up to `count` numbers: never used ones in order, then those whose week is over, longest rest first."""
    if count == 0:
        return []
    used = {held.tag for held in claims.values()}
    fresh = list(islice((tag for tag in range(1, last + 1) if tag not in used), count))
    if len(fresh) == count:
        return fresh
    rested = sorted(
        (held.released, held.tag) for held in claims.values() if held.released is not None and now - held.released >= REST
    )
    return fresh + [tag for _, tag in rested[: count - len(fresh)]]


def not_after(held: TagClaim, *, now: float) -> TagClaim:
    """A release in the future was written while the clock was wrong: its week begins now."""
    return replace(held, released=now) if held.released is not None and held.released > now else held


def exhausted(claims: Claims, app: AppName, *, last: int) -> Conflict:
    """The error that names how full it was."""
    used = len(in_use(claims))
    return Conflict(
        f"no tag left for {app}: of {last}, {used} are in use and {len(claims) - used} rest for a week after their release",
        hint="remove policies that name apps no longer there",
    )
