"""Which data etcd has, and why it may be other data than before. Pure.

The generation is a record that the first cell makes in an empty etcd, and that is made anew when data was lost. So a cell that
comes late recognizes a loss too, when the revision has long passed that of before. The record names the generation whose data
it goes on with.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import Reading, Value
from agent.store.etcd.keys import Keys


@dataclass(frozen=True, slots=True)
class Generation:
    """Which data this is. `before` is the generation it goes on from, empty where nothing was left of one."""

    id: str
    before: str
    revision: int


def generation(values: Mapping[str, Value], keys: Keys) -> Generation | None:
    """The record; a malformed one is a generation of its own."""
    held = values.get(keys.generation)
    if held is None:
        return None
    try:
        found = records.GenerationRecord.read(held)
    except ValueError:
        return Generation(held.data.hex(), "", held.revision)
    return Generation(found.id, found.before, held.revision)


def reason_to_doubt(before: Reading, now: Reading, *, known: int, keys: Keys) -> str | None:
    """Why `now` may not be of the data that `before` is of; `known`: its revision before the reading began."""
    if known == 0:
        return None
    if now.cluster != before.cluster:
        return f"etcd is another cluster than before ({now.cluster:x}, was {before.cluster:x})"
    if now.revision < known:
        return f"etcd's data is older than before (revision {now.revision}, was {known})"
    return changed_generation(before.values, now.values, keys)


def changed_generation(before: Mapping[str, Value], after: Mapping[str, Value], keys: Keys) -> str | None:
    """The reason to doubt that is left when the revision has passed that of before."""
    old, new = generation(before, keys), generation(after, keys)
    if old is None or (new is not None and new.id == old.id):
        return None
    return "etcd's data is not that of before: it was lost" if new else "etcd's data was deleted"


def lacks_something(before: Reading, now: Reading, *, keys: Keys) -> bool:
    """Whether a record is missing, or is an earlier one. False if the data goes on from what is known here."""
    old, new = generation(before.values, keys), generation(now.values, keys)
    if old is None or new is None or old.id != new.id:
        return True
    for key, held in before.values.items():
        there = now.values.get(key)
        if not held.lease and not same_content(held, there) and (there is None or there.revision <= before.revision):
            return True
    return any(
        not each.lease and each.revision <= before.revision and key not in before.values for key, each in now.values.items()
    )


def same_content(one: Value | None, other: Value | None) -> bool:
    """Whether two records have the same bytes; when they were written does not matter."""
    return (one is None) == (other is None) and (one is None or other is None or one.data == other.data)


def revision_of_loss(before: Reading, now: Reading, keys: Keys) -> int:
    """The revision after which records were written by cells that knew of the loss, or had lost nothing."""
    old, new = generation(before.values, keys), generation(now.values, keys)
    assert new is not None  # it is made before anything else
    goes_on = old is not None and new.before == old.id
    return min(new.revision, before.revision) if goes_on else new.revision


def unchanged_generation(values: Mapping[str, Value], keys: Keys) -> list[rpc.Compare]:
    """Holds as long as no data was lost: what is written after a loss unawares would be judged as older than it."""
    held = values.get(keys.generation)
    if held is None:
        return []
    compare = rpc.Compare
    return [compare(result=compare.EQUAL, target=compare.VALUE, key=keys.generation.encode(), value=held.data)]
