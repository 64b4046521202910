"""The errors that every store raises in the same words."""

from collections.abc import Iterable

from agent.errors import Conflict, InvalidInput, NotFound
from agent.model.cell import CellRecord
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.routes import Route
from agent.wording import did_you_mean


def refuse_credentials(writer: StoreCredentials | None) -> None:
    """Raise InvalidInput where a request brings rights to a store that has no users."""
    if writer is not None:
        raise InvalidInput("this cell's store is a file of its own, which asks for no credentials", hint="leave them out")


def no_such_policy(name: str, *, known: Iterable[str]) -> NotFound:
    """For a name that is not there, with the nearest one that is."""
    hint = did_you_mean(name, known, otherwise="`cellnet policy list` shows what there is")
    return NotFound(f"there is no policy '{name}' in the store", hint=hint)


def no_such_cell(name: str, *, known: Iterable[str]) -> NotFound:
    """For a cell that is not there, with the nearest one that is."""
    hint = did_you_mean(name, known, otherwise="`cellnet cell list` shows those there are")
    return NotFound(f"there is no cell '{name}' in the store", hint=hint)


def still_alive(name: str) -> Conflict:
    """For the removal of a living cell."""
    return Conflict(f"cell {name} is alive", hint="stop its agent first; 30 seconds later it can be removed")


def another_machine(held: CellRecord) -> Conflict:
    """For a name that another machine has."""
    return Conflict(
        f"cell {held.name} is another machine (id {held.id[:12]}, underlay {held.underlay})",
        hint=f"give this one another name in agent.yaml, or `cellnet cell remove {held.name}` if that machine is gone",
    )


def same_id(held: CellRecord) -> Conflict:
    """For a machine that has a living cell's id, and another address."""
    return Conflict(
        f"this cell's id is that of cell {held.name}, which is alive at {held.underlay}",
        hint="if this machine is a copy of that one, remove /var/lib/cellnet from it; if it is the same at another address, "
        "wait half a minute",
    )


def same_underlay(held: CellRecord) -> Conflict:
    """For an address that a living cell has."""
    return Conflict(
        f"cell {held.name} is alive behind the same underlay address {held.underlay}",
        hint="each cell needs an address of its own: look at underlay.address in agent.yaml",
    )


def belongs_to_another(host: str, held: Route) -> Conflict:
    """For a route that another space has, or one above or below it."""
    if host == held.host:
        what = f"the route {host} belongs to {held.space}"
    else:
        what = f"the route {host} lies {'below' if host.endswith(f'.{held.host}') else 'above'} {held.host}, of {held.space}"
    return Conflict(what, hint=f"choose another name, or have the operator free it: `cellnet route unmap {held.host}`")


def no_such_route(host: str, *, known: Iterable[str]) -> NotFound:
    """For a route that is not there, with the nearest one that is."""
    hint = did_you_mean(host, known, otherwise="`cellnet route list` shows those there are")
    return NotFound(f"there is no route '{host}'", hint=hint)


def not_mapped(held: Route, app: AppName) -> NotFound:
    """For a route that an app does not have."""
    apps = ", ".join(map(str, sorted(held.apps)))
    hint = f"it is mapped to {apps}" if apps else f"it is what {held.space} has claimed, and that app is of another space"
    return NotFound(f"the route {held.host} is not mapped to {app}", hint=hint)


def index_taken(app: AppName, index: int, *, by: str, hint: str = "") -> Conflict:
    """For an instance's number that another has; `by` in words."""
    hint = hint or "leave the instance out to get the lowest free one"
    return Conflict(f"instance {index} of {app} is taken by {by}", hint=hint)
