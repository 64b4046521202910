"""Names of apps that are probably mistyped: nothing has them, and something has a name that is like them. Pure."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from agent.model.names import AppName
from agent.model.policy import Pattern
from agent.wording import nearest


def notices(patterns: Iterable[Pattern], *, named: AbstractSet[AppName], is_new: bool = False) -> tuple[str, ...]:
    """One for each pattern that means none of `named`: the apps that run on any cell, or that a policy or a route names.

    `is_new`: what is named for the first time need not be a mistake, so only what is like another name is.
    """
    missing = (each for each in dict.fromkeys(patterns) if not _is_meant(each, named))
    found = ((each, next(_near(each, named), None)) for each in missing)
    return tuple(_notice(each, near) for each, near in found if near is not None or not is_new)


def _is_meant(pattern: Pattern, named: AbstractSet[AppName]) -> bool:
    exact = pattern.exact()
    return exact in named if exact is not None else any(map(pattern.matches, named))


def _notice(pattern: Pattern, near: Pattern | None) -> str:
    return f"nothing of {pattern} runs here or is named" + ("" if near is None else f"; did you mean {near}?")


def _near(pattern: Pattern, named: AbstractSet[AppName]) -> Iterator[Pattern]:
    """Those that differ from it in one part, the last one first: a name is seldom wrong in two."""
    org, space, app = pattern.org, pattern.space, pattern.app
    if app is not None and (found := nearest(app, {each.app for each in named if (each.org, each.space) == (org, space)})):
        yield Pattern(org, space, found)
    alike = [each for each in named if app in (None, each.app)]
    if space is not None and (found := nearest(space, {each.space for each in alike if each.org == org})):
        yield Pattern(org, found, app)
    if found := nearest(org, {each.org for each in alike if space in (None, each.space)}):
        yield Pattern(found, space, app)
