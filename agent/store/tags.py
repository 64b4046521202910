"""Which app gets which tag: one pure rule for every store.

A tag is the source of a packet as the kernel sees it, so a number must not pass to another app while a rule, a packet
or another cell may still mean the old one by it: never-used numbers first, given-back ones only after a week.
"""

from collections.abc import Container, Iterable, Mapping
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
TagChanges = dict[AppName, TagClaim | None]
"""Only the claims that change; None where the number has gone to another app."""


def in_use(claims: Claims) -> dict[AppName, int]:
    """App -> tag, of those not given back."""
    return {app: claim.tag for app, claim in claims.items() if claim.released is None}


def claim(claims: Claims, apps: Iterable[AppName], *, now: float, last: int = LAST_TAG) -> TagChanges:
    """What gives each of `apps` its tag. Raises Conflict when none is left.

    An app that comes back gets its old one, a new app the lowest that was never used, else the one that has rested longest.
    """
    wanted = sorted(set(apps))
    changes = postponed(claims, now=now)
    changes |= {
        app: replace(claims[app], released=None) for app in wanted if app in claims and claims[app].released is not None
    }
    new = [app for app in wanted if app not in claims]
    used = {held.tag for held in claims.values()}
    fresh = list(islice((tag for tag in range(1, last + 1) if tag not in used), len(new)))
    reused = rested(claims, now=now, but=changes)[: len(new) - len(fresh)] if len(fresh) < len(new) else []
    if len(fresh) + len(reused) < len(new):
        raise exhausted(claims, new[len(fresh) + len(reused)], last=last)
    changes |= dict.fromkeys(reused)
    numbers = fresh + [claims[app].tag for app in reused]
    return changes | {app: TagClaim(tag) for app, tag in zip(new, numbers, strict=True)}


def release(claims: Claims, apps: Iterable[AppName], *, now: float) -> TagChanges:
    """What gives the tags of `apps` back; one given back before keeps its time."""
    return {app: replace(claims[app], released=now) for app in set(apps) if app in claims and claims[app].released is None}


def applied(claims: Claims, changes: TagChanges) -> dict[AppName, TagClaim]:
    """The claims after `changes`."""
    after = dict(claims)
    for app, held in changes.items():
        if held is None:
            del after[app]
        else:
            after[app] = held
    return after


def rested(claims: Claims, *, now: float, but: Container[AppName]) -> list[AppName]:
    """Apps whose week is over, the longest rest first."""
    found = ((held.released, held.tag, app) for app, held in claims.items() if held.released is not None)
    return [app for released, _, app in sorted(found) if now - released >= REST and app not in but]


def resting(claims: Claims, *, now: float) -> frozenset[AppName]:
    """Apps that gave their numbers back less than a week ago."""
    return frozenset(app for app, held in claims.items() if held.released is not None and now - held.released < REST)


def postponed(claims: Claims, *, now: float) -> TagChanges:
    """Releases in the future were written while the clock was wrong: their week begins now."""
    return {
        app: replace(held, released=now) for app, held in claims.items() if held.released is not None and held.released > now
    }


def exhausted(claims: Claims, app: AppName, *, last: int) -> Conflict:
    """The error that names how full it was."""
    used = len(in_use(claims))
    return Conflict(
        f"no tag left for {app}: of {last}, {used} are in use and {len(claims) - used} rest for a week after their release",
        hint="remove policies that name apps no longer there",
    )
