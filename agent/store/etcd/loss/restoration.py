"""What any cell may write again: tags and claims, and its own records; only where nothing is. Pure."""

from collections.abc import Collection, Iterator, Mapping

from agent.model.names import AppName
from agent.store.etcd import records
from agent.store.etcd.client import Reading, Value, absent, put
from agent.store.etcd.disk_copy import RecordsInForce
from agent.store.etcd.keys import Keys
from agent.store.etcd.names.records import ClaimRecord
from agent.store.etcd.policies_and_tags import PoliciesAndTags
from agent.store.etcd.transactions import Plan, joined, tag_plans
from agent.store.tags import Claims, claim


def plans_to_restore(
    in_force: RecordsInForce,
    now: Reading,
    *,
    keys: Keys,
    cell: str,
    clock: float,
    last_tag: int,
    left_out: Collection[str] = (),
) -> list[Plan]:
    """Transactions after which etcd has what this cell knows. Empty when it does. Raises Conflict when tags run out.

    Records that are `left_out` are not written back: to a cell that comes new they would be as good as others.

    Tags come first: a number in use must not be given to another app. An app in use whose number went to another app meanwhile
    gets a new one, as etcd has the last word on which app has a number. `clock`: seconds since 1970.
    """
    claims, there = tags_of(in_force, keys), tags_of(now.values, keys)
    creations = joined(
        (*_missing_tags(claims, now.values, keys), *_missing_records(in_force, now.values, keys, cell, left_out))
    )
    if creations:
        return creations
    lost = [app for app, held in claims.items() if held.released is None and not _is_in_use(there, app)]
    return tag_plans(there, claim(there, lost, now=clock, last=last_tag), keys=keys, values=now.values) if lost else []


def tags_of(values: Mapping[str, Value], keys: Keys) -> Claims:
    """The claims that records give."""
    found = PoliciesAndTags(keys)
    found.update([key for key in values if key.startswith((keys.apps, keys.numbers))], values)
    return found.valid


def _is_in_use(claims: Claims, app: AppName) -> bool:
    return app in claims and claims[app].released is None


def _missing_tags(claims: Claims, there: Mapping[str, Value], keys: Keys) -> Iterator[Plan]:
    """Those that lack a record, or both, and whose number no other app has."""
    for app, held in claims.items():
        data = {keys.app(app): records.encode_tag(held), keys.number(held.tag): str(app).encode()}
        missing = {key: value for key, value in data.items() if key not in there}
        number, own = there.get(keys.number(held.tag)), there.get(keys.app(app))
        if not missing or (number is not None and number.data != str(app).encode()) or (own and _tag_of(own) != held.tag):
            continue
        yield [absent(key) for key in missing], [put(key, value) for key, value in missing.items()]


def _tag_of(value: Value) -> int | None:
    try:
        return records.decode_tag(value).tag
    except ValueError:
        return None


def _missing_records(
    in_force: RecordsInForce, there: Mapping[str, Value], keys: Keys, cell: str, left_out: Collection[str]
) -> Iterator[Plan]:
    """Claims of all cells, and this cell's own records."""
    for key, held in in_force.items():
        is_restored = key.startswith((keys.claims, keys.cell(cell))) and key != keys.generation and key not in left_out
        if is_restored and not held.lease and key not in there:
            yield [absent(key)], [put(key, held.data)]


def clashes(
    in_force: RecordsInForce, there: Mapping[str, Value], *, keys: Keys, left_out: Collection[str] = ()
) -> Iterator[str]:
    """Numbers, subnets and names that went to others meanwhile, in words."""
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
        is_of_name = key.startswith((keys.claimed_routes, keys.claimed_names)) and key not in left_out
        if is_of_name and new is not None and _owner_of(new) != _owner_of(old):
            taken_from = f"{key.removeprefix(keys.claims)} of {_owner_of(old)}"
            yield f"{taken_from} was given to {_owner_of(new)} while etcd's data was lost"


def _cell_of(value: Value) -> str:
    try:
        return records.SubnetRecord.read(value).cell
    except ValueError:
        return "?"


def _owner_of(value: Value) -> str:
    try:
        return ClaimRecord.read(value).owner
    except ValueError:
        return "?"
