"""What happens to the records when etcd's data was lost: which are written back, which are held, and until when. Pure.

    doubt            another cluster, an earlier revision, or another generation than before
    lost_to_us       whether it lacks anything that was known here; if not, the right data was brought back
    write_back       what any cell may write again: tags and claims, and the cell's own records; only where nothing is
    held_after       what nobody but the operator or another cell may write again, which stays in force as it was known here

The generation is a record that the first cell makes in an empty etcd, and that is made anew when data was lost. So who comes
late sees a loss too, when the revision has long passed that of before. It names the generation whose data it goes on with.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.model.names import AppName
from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import Found, Value, absent, put, unchanged
from agent.store.etcd.copied import Copy, Held, InForce
from agent.store.etcd.keys import Keys
from agent.store.etcd.policies_and_tags import View
from agent.store.etcd.transactions import Plan, claim_plans, joined
from agent.store.tags import Claims, claim

FEW = 3  # that are named


@dataclass(frozen=True, slots=True)
class Generation:
    """Which data this is. `before` is the generation it goes on from, empty where nothing was left of one."""

    id: str
    before: str
    revision: int


def generation(values: Mapping[str, Value], keys: Keys) -> Generation | None:
    """The record; one that makes no sense is a generation of its own."""
    held = values.get(keys.generation)
    if held is None:
        return None
    try:
        found = json.loads(held.data)
        return Generation(str(found["id"]), str(found["before"]), held.revision)
    except (ValueError, RecursionError, TypeError, LookupError):
        return Generation(held.data.hex(), "", held.revision)


def generation_data(new: str, *, before: str) -> bytes:
    """Its record."""
    return json.dumps({"id": new, "before": before}).encode()


def doubt(copy: Copy, found: Found, *, known: int, keys: Keys) -> str | None:
    """Why what was found may not be the data that `copy` is of; `known`: its revision before the reading began."""
    if known == 0:
        return None
    if found.cluster != copy.cluster:
        return f"etcd is another cluster than before ({found.cluster:x}, was {copy.cluster:x})"
    if found.revision < known:
        return f"etcd's data is older than before (revision {found.revision}, was {known})"
    return changed_generation(copy.values, found.values, keys)


def changed_generation(before: Mapping[str, Value], after: Mapping[str, Value], keys: Keys) -> str | None:
    """A reason to doubt that is left when the revision has passed the one of before."""
    old, new = generation(before, keys), generation(after, keys)
    if old is None or (new is not None and new.id == old.id):
        return None
    return "etcd's data is not that of before: it was lost" if new else "etcd's data was deleted"


def lost_to_us(copy: Copy, found: Found, *, keys: Keys) -> bool:
    """Whether it lacks something, or has it as it was earlier. Not if it goes on from what is known here."""
    old, new = generation(copy.values, keys), generation(found.values, keys)
    if old is None or new is None or old.id != new.id:
        return True
    for key, held in copy.values.items():
        there = found.values.get(key)
        if not held.lease and not same(held, there) and (there is None or there.revision <= copy.revision):
            return True
    return any(
        not each.lease and each.revision <= copy.revision and key not in copy.values for key, each in found.values.items()
    )


def same(one: Value | None, other: Value | None) -> bool:
    """Whether two records say the same; when they were written does not matter."""
    return (one is None) == (other is None) and (one is None or other is None or one.data == other.data)


def write_back(in_force: InForce, found: Found, *, keys: Keys, cell: str, now: float, last_tag: int) -> list[Plan]:
    """Transactions after which etcd has what this cell knows. Empty when it does. Raises Conflict when tags run out.

    Tags come first: a number that somebody uses must not be given to another. An app in use whose number went to another app
    meanwhile gets a new one, as etcd has the last word on who has a number.
    """
    claims, there = tags_of(in_force, keys), tags_of(found.values, keys)
    creations = joined((*_tags(claims, found.values, keys), *_records(in_force, found.values, keys, cell)))
    if creations:
        return creations
    unused = [app for app, held in claims.items() if held.released is None and not _in_use(there, app)]
    return claim_plans(there, claim(there, unused, now=now, last=last_tag), keys=keys, values=found.values) if unused else []


def tags_of(values: Mapping[str, Value], keys: Keys) -> Claims:
    """The tags that records give."""
    view = View(keys)
    view.update([key for key in values if key.startswith((keys.apps, keys.numbers))], values)
    return view.valid_claims()


def _in_use(claims: Claims, app: AppName) -> bool:
    return app in claims and claims[app].released is None


def _tags(claims: Claims, there: Mapping[str, Value], keys: Keys) -> Iterator[Plan]:
    """Those that lack a record, or both, and whose number nobody else has."""
    for app, held in claims.items():
        data = {keys.app(app): records.claim_data(held), keys.number(held.tag): str(app).encode()}
        missing = {key: value for key, value in data.items() if key not in there}
        number, own = there.get(keys.number(held.tag)), there.get(keys.app(app))
        if not missing or (number is not None and number.data != str(app).encode()) or (own and _tag_of(own) != held.tag):
            continue
        yield [absent(key) for key in missing], [put(key, value) for key, value in missing.items()]


def _tag_of(value: Value) -> int | None:
    try:
        return records.claim(value).tag
    except ValueError:
        return None


def _records(in_force: InForce, there: Mapping[str, Value], keys: Keys, cell: str) -> Iterator[Plan]:
    """Claims of all cells, and this cell's own records."""
    for key, held in in_force.items():
        if key.startswith((keys.claims, keys.cell(cell))) and key != keys.generation and not held.lease and key not in there:
            yield [absent(key)], [put(key, held.data)]


def since(copy: Copy, found: Found, keys: Keys) -> int:
    """The revision after which a record was written by somebody who knew of the loss, or without having lost anything."""
    old, new = generation(copy.values, keys), generation(found.values, keys)
    assert new is not None  # it is made before anything else
    goes_on = old is not None and new.before == old.id
    return min(new.revision, copy.revision) if goes_on else new.revision


def held_after(in_force: InForce, found: Found, *, after: int, keys: Keys, cell: str) -> dict[str, Value | None]:
    """What stays as it was in force though etcd has it otherwise. None: a policy that older data brings back stays out."""
    held: dict[str, Value | None] = {}
    for key, old in in_force.items():
        new = found.values.get(key)
        if not same(old, new) and (new is None or new.revision <= after) and not _settled(key, keys, cell):
            held[key] = old
    for key, new in found.values.items():
        if key.startswith(keys.policies) and key not in in_force and new.revision <= after and not _settled(key, keys, cell):
            held[key] = None
    return held


def _settled(key: str, keys: Keys, cell: str) -> bool:
    """Whether it has been written back, or is written anew by whoever it belongs to."""
    return key == keys.accepted or key.startswith((keys.claims, keys.tags, keys.cell(cell), keys.endpoints_of(cell)))


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the operator has given up, of one generation: single records, or all but those that cells write back."""

    generation: str
    everything: bool
    keys: frozenset[str]

    def covers(self, key: str, keys: Keys) -> bool:
        """Whether it is not to be held any more."""
        return key in self.keys or (self.everything and not key.startswith((keys.cells, keys.endpoints)))


def accepted(values: Mapping[str, Value], keys: Keys) -> Accepted:
    """What is given up of the generation that `values` are of."""
    now, held = generation(values, keys), values.get(keys.accepted)
    current = now.id if now is not None else ""
    nothing = Accepted(current, everything=False, keys=frozenset())
    if held is None:
        return nothing
    try:
        found = json.loads(held.data)
        said = Accepted(str(found["generation"]), found["everything"] is True, frozenset(map(str, found["keys"])))
    except (ValueError, RecursionError, TypeError, LookupError):
        return nothing
    return said if said.generation == current else nothing


def giving_up(said: Accepted, keys: Keys, there: Mapping[str, Value]) -> Plan:
    """The transaction that says so."""
    data = json.dumps({"generation": said.generation, "everything": said.everything, "keys": sorted(said.keys)}).encode()
    return [unchanged(keys.accepted, there.get(keys.accepted))], [put(keys.accepted, data)]


def deleting(do: Sequence[rpc.RequestOp], *, held: Collection[str], keys: Keys, there: Mapping[str, Value]) -> Plan:
    """What a transaction must do besides where it deletes records that etcd has lost and cells hold: they are given up."""
    ranges = [op.request_delete_range for op in do if op.HasField("request_delete_range")] if held else []
    gone = {key for key in held for each in ranges if _within(key.encode(), each)}
    gone |= {key for each in ranges if (key := each.key.decode()).startswith(keys.policies)}  # another cell may hold it still
    if not gone:
        return [], []
    said = accepted(there, keys)
    return giving_up(replace(said, keys=said.keys | gone), keys, there)


def _within(key: bytes, deleted: rpc.DeleteRangeRequest) -> bool:
    return key == deleted.key or deleted.key <= key < deleted.range_end


def same_data(values: Mapping[str, Value], keys: Keys) -> list[rpc.Compare]:
    """Holds as long as no data was lost: what is written otherwise would be judged as older than the loss."""
    held = values.get(keys.generation)
    if held is None:
        return []
    compare = rpc.Compare
    return [compare(result=compare.EQUAL, target=compare.VALUE, key=keys.generation.encode(), value=held.data)]


def held_policies(held: Held, keys: Keys) -> list[str]:
    """By name."""
    return sorted(key.removeprefix(keys.policies) for key in held.values if key.startswith(keys.policies))


def told(held: Held, keys: Keys) -> Iterator[tuple[str, str]]:
    """What is held, each with what to do about it."""
    names = held_policies(held, keys)
    if names:
        shown = ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
        yield (
            f"etcd has lost data: {len(names)} policies are held as they were known here: {shown}",
            "apply them again (`cellnet policy apply`), or give up what was lost: `cellnet policy accept-loss`",
        )
    cells = sorted({key.removeprefix(keys.cells).partition("/")[0] for key in held.values if key.startswith(keys.cells)})
    if cells:
        shown = ", ".join(cells[:FEW]) + (f" and {len(cells) - FEW} more" if len(cells) > FEW else "")
        yield (
            f"etcd has lost data, and is yet to hear of {len(cells)} cells, which are kept as they were known: {shown}",
            "start the agents of those that still are, `cellnet cell remove` those that are not",
        )


def clashes(in_force: InForce, there: Mapping[str, Value], *, keys: Keys) -> Iterator[str]:
    """What somebody who did not know of it has taken meanwhile, in words."""
    now = tags_of(there, keys)
    for app, held in tags_of(in_force, keys).items():
        taken = there.get(keys.number(held.tag))
        if held.released is None and taken is not None and taken.data != str(app).encode():
            has, other = f"has {now[app].tag} now" if app in now else "has none", taken.data.decode(errors="replace")
            yield f"tag {held.tag} of {app} was given to {other} while etcd's data was lost: {app} {has}"
    for key, old in in_force.items():
        new = there.get(key)
        if key.startswith(keys.subnets) and new is not None and _cell_of(new) != _cell_of(old):
            taken_from = f"subnet {key.removeprefix(keys.subnets)} of cell {_cell_of(old)}"
            yield f"{taken_from} was given to {_cell_of(new)} while etcd's data was lost"


def _cell_of(value: Value) -> str:
    try:
        return str(json.loads(value.data)["cell"])
    except (ValueError, RecursionError, TypeError, LookupError):
        return "?"
