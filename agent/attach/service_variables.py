"""Environment variables by which an app finds the others that it may reach: `WARP_IST_db=db.shop.acme.cell.internal`. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from agent.model.names import AppName
from agent.wording import listed
from ca.names import LONGEST_NAME


@dataclass(frozen=True, slots=True)
class ServiceVariables:
    """`variables` in the order of their names; `warnings` name the apps that have none, and say why."""

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
    names = {word: name_of(claims[word][0]) for word in sorted(claims)}
    called = {word: name for word, name in names.items() if len(name) <= LONGEST_NAME}  # as only these lead to an app
    variables = {f"{prefix}{word}": name for prefix in sorted(prefixes) for word, name in called.items()}
    clashes = tuple(_clash(word, claims[word]) for word in names if len(claims[word]) > 1)
    return ServiceVariables(variables, (*clashes, *(_nameless(claims[word][0]) for word in names if word not in called)))


def _is_near(each: AppName, app: AppName) -> bool:
    return (each.org, each.space) == (app.org, app.space)


def _word(each: AppName, app: AppName) -> str:
    parts = (each.app,) if _is_near(each, app) else (each.org, each.space, each.app)
    return "_".join(parts).replace("-", "_")


def _clash(word: str, claimants: list[AppName]) -> str:
    first, *others = map(str, claimants)
    return f"the service variable '{word}' is that of {first}, so there is none for {listed(others)}"


def _nameless(app: AppName) -> str:
    return (
        f"there is no service variable for {app}: its name would have more than the {LONGEST_NAME} characters that DNS carries"
    )
