"""Which number an instance gets: one pure rule for every store."""

from collections.abc import Callable, Collection

from agent.errors import Conflict
from agent.model.attachment import INSTANCE_LIMIT
from agent.model.names import AppName
from agent.store.refusals import index_taken


def choose(app: AppName, *, wanted: int | None, avoid: Collection[int], holder: Callable[[int], Conflict | None]) -> int:
    """`wanted`, or the lowest that is free. `avoid` are those of the cell's own instances; `holder` gives the refusal for a
    number that another instance has.

    Raises that, and Conflict where all are taken.
    """
    if wanted is not None:
        taken = index_taken(app, wanted, by="another attachment of this cell") if wanted in avoid else holder(wanted)
        if taken is not None:
            raise taken
        return wanted
    own = frozenset(avoid)
    for index in range(INSTANCE_LIMIT + 1):
        if index not in own and holder(index) is None:
            return index
    raise Conflict(f"no instance of {app} is left: all {INSTANCE_LIMIT + 1} numbers are taken", hint="detach some of them")
