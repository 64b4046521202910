"""Environment variables by which an app finds the others that it may reach: `WARP_IST_db=db.shop.acme.cell.internal`. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from agent.model.names import AppName
from agent.wording import listed


@dataclass(frozen=True, slots=True)
class ServiceVariables:
    """`variables` in the order of their names; `warnings` name the apps that have none, since another has theirs."""

    variables: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def service_variables(
    app: AppName, reached: Iterable[AppName], *, prefixes: Collection[str], name_of: Callable[[AppName], str]
) -> ServiceVariables:
    """Of `app`, for each app that it may reach and each prefix. `name_of` gives an app's DNS name.

    `<prefix><app>` within the own space, `<prefix><org>_<space>_<app>` beyond it, each `-` as `_`. Where that is one word for
    two apps it is that of the own space's, else of the one whose last part is shorter, else of the first by name.
    """
    if not prefixes:
        return ServiceVariables()
    claims: dict[str, list[AppName]] = {}
    for each in reached:
        claims.setdefault(_word(each, app), []).append(each)
    for claimants in claims.values():
        claimants.sort(key=lambda each: (not _is_near(each, app), len(each.app), each))
    words = sorted(claims)
    variables = {f"{prefix}{word}": name_of(claims[word][0]) for prefix in sorted(prefixes) for word in words}
    return ServiceVariables(variables, tuple(_warning(word, claims[word]) for word in words if len(claims[word]) > 1))


def _is_near(each: AppName, app: AppName) -> bool:
    return (each.org, each.space) == (app.org, app.space)


def _word(each: AppName, app: AppName) -> str:
    parts = (each.app,) if _is_near(each, app) else (each.org, each.space, each.app)
    return "_".join(parts).replace("-", "_")


def _warning(word: str, claimants: list[AppName]) -> str:
    first, *others = map(str, claimants)
    return f"the service variable '{word}' is that of {first}, so there is none for {listed(others)}"
