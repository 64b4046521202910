"""What happens to the records when etcd's data was lost: which are written back, which are held, and until when.

    reason_to_doubt    another cluster, an earlier revision, or another generation than before
    lacks_something    whether anything is missing that was known here; if not, the right data was brought back
    plans_to_restore   what any cell may write again: tags and claims, and the cell's own records; only where nothing is
    records_to_hold    what only the operator or another cell may write again: it stays in force as it was known here

The generation is a record that the first cell makes in an empty etcd, and that is made anew when data was lost. So a cell that
comes late recognizes a loss too, when the revision has long passed that of before. The record names the generation whose data
it goes on with. All functions are pure; `Recovery` reads and writes.
"""

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent import log
from agent.errors import Unavailable
from agent.model.names import AppName
from agent.model.status import Problem
from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import EtcdClient, Reading, Value, absent, put, unchanged
from agent.store.etcd.disk_copy import HeldRecords, RecordsInForce
from agent.store.etcd.keys import Keys, forwards
from agent.store.etcd.names.records import ClaimRecord
from agent.store.etcd.policies_and_tags import PoliciesAndTags
from agent.store.etcd.transactions import Plan, joined, tag_plans
from agent.store.tags import LAST_TAG, Claims, claim
from agent.wording import listed

TRIES = 10  # to read data with a generation


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


def revision_of_loss(before: Reading, now: Reading, keys: Keys) -> int:
    """The revision after which records were written by cells that knew of the loss, or had lost nothing."""
    old, new = generation(before.values, keys), generation(now.values, keys)
    assert new is not None  # it is made before anything else
    goes_on = old is not None and new.before == old.id
    return min(new.revision, before.revision) if goes_on else new.revision


def records_to_hold(in_force: RecordsInForce, now: Reading, *, after: int, keys: Keys, cell: str) -> dict[str, Value | None]:
    """What stays as it was in force though etcd has it otherwise. None: a policy that older data brings back stays out."""
    held: dict[str, Value | None] = {}
    for key, old in in_force.items():
        new = now.values.get(key)
        if not same_content(old, new) and (new is None or new.revision <= after) and not _is_written_anew(key, keys, cell):
            held[key] = old
    for key, new in now.values.items():
        if key.startswith(keys.policies) and key not in in_force and new.revision <= after and key != keys.accepted:
            held[key] = None
    return held


def _is_written_anew(key: str, keys: Keys, cell: str) -> bool:
    """Whether it has been restored, or is written by this cell anyway."""
    return key == keys.accepted or key.startswith((keys.claims, keys.tags, keys.cell(cell), keys.endpoints_of(cell)))


@dataclass(frozen=True, slots=True)
class AcceptedLoss:
    """What the operator has given up, of one generation: single records, or all but those that cells restore."""

    generation: str
    everything: bool = False
    keys: frozenset[str] = frozenset()

    def covers(self, key: str, keys: Keys) -> bool:
        """Whether it is not to be held any more."""
        return key in self.keys or (self.everything and not key.startswith((keys.cells, keys.endpoints)))


def accepted_loss(values: Mapping[str, Value], keys: Keys) -> AcceptedLoss:
    """What is given up of the generation that `values` are of."""
    now, held = generation(values, keys), values.get(keys.accepted)
    nothing = AcceptedLoss(now.id if now is not None else "")
    if held is None:
        return nothing
    try:
        found = records.AcceptedLossRecord.read(held)
    except ValueError:
        return nothing
    accepted = AcceptedLoss(found.generation, found.everything, frozenset(found.keys))
    return accepted if accepted.generation == nothing.generation else nothing


def plan_to_accept(loss: AcceptedLoss, keys: Keys, there: Mapping[str, Value]) -> Plan:
    """The transaction that writes what is given up."""
    record = records.AcceptedLossRecord(generation=loss.generation, everything=loss.everything, keys=tuple(sorted(loss.keys)))
    return [unchanged(keys.accepted, there.get(keys.accepted))], [put(keys.accepted, record.data())]


def plan_beside_deletions(
    do: Sequence[rpc.RequestOp], *, held: Collection[str], keys: Keys, there: Mapping[str, Value]
) -> Plan:
    """What a transaction must do besides where it deletes records that etcd has lost and cells hold: they are given up."""
    ranges = [op.request_delete_range for op in do if op.HasField("request_delete_range")] if held else []
    gone = {key for key in held for each in ranges if _is_within(key.encode(), each)}
    gone |= {key for each in ranges if (key := each.key.decode()).startswith(keys.policies)}  # another cell may hold it still
    if not gone:
        return [], []
    accepted = accepted_loss(there, keys)
    return plan_to_accept(replace(accepted, keys=accepted.keys | gone), keys, there)


def _is_within(key: bytes, deleted: rpc.DeleteRangeRequest) -> bool:
    return key == deleted.key or deleted.key <= key < deleted.range_end


def unchanged_generation(values: Mapping[str, Value], keys: Keys) -> list[rpc.Compare]:
    """Holds as long as no data was lost: what is written after a loss unawares would be judged as older than it."""
    held = values.get(keys.generation)
    if held is None:
        return []
    compare = rpc.Compare
    return [compare(result=compare.EQUAL, target=compare.VALUE, key=keys.generation.encode(), value=held.data)]


def held_policies(held: HeldRecords, keys: Keys) -> list[str]:
    """By name."""
    return sorted(key.removeprefix(keys.policies) for key in held.values if key.startswith(keys.policies))


def held_routes(held: HeldRecords, keys: Keys) -> list[str]:
    """Hosts, sorted."""
    return sorted(forwards(key.removeprefix(keys.routes)) for key in held.values if key.startswith(keys.routes))


def held_problems(held: HeldRecords, keys: Keys) -> Iterator[Problem]:
    """What is held, and what to do about it."""
    names = held_policies(held, keys)
    if names:
        yield Problem(
            "store",
            f"etcd has lost data: {len(names)} policies are held as they were known here: {listed(names)}",
            "apply them again (`cellnet policy apply`), or give up what was lost: `cellnet policy accept-loss`",
        )
    hosts = held_routes(held, keys)
    if hosts:
        yield Problem(
            "store",
            f"etcd has lost data: {len(hosts)} routes are held as the operator has mapped or freed them: {listed(hosts)}",
            "map or unmap them again (`cellnet route`), or give up what was lost: `cellnet policy accept-loss`",
        )
    cells = sorted({key.removeprefix(keys.cells).partition("/")[0] for key in held.values if key.startswith(keys.cells)})
    if cells:
        yield Problem(
            "store",
            f"etcd has lost data, and is yet to hear of {len(cells)} cells, which are kept as they were known: {listed(cells)}",
            "start the agents of those that still are, `cellnet cell remove` those that are not",
        )


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


class Recovery:
    """Gives etcd's data a generation, and restores what this cell knows after a loss. One per store.

    `now`: seconds since 1970; `fresh` makes what no two cells make alike; `left_out` are keys of records that do not hold.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        *,
        cell: str,
        now: Callable[[], float],
        last_tag: int = LAST_TAG,
        fresh: Callable[[], str] = lambda: secrets.token_hex(8),
        left_out: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._client = client
        self._keys = keys
        self._cell = cell
        self._now = now
        self._last_tag = last_tag
        self._fresh = fresh
        self._left_out = left_out
        self.clashes: tuple[str, ...] = ()

    async def read(self) -> Reading:
        """All records. Where they have no generation (a new etcd, or all was lost) one is made."""
        for _ in range(TRIES):
            found = await self._client.read(self._keys.root)
            if generation(found.values, self._keys) is not None:
                return found
            await self._make_generation(found, before="")
        raise Unavailable("etcd's data is deleted again and again", hint="find what deletes below the prefix")

    async def restore(self, in_force: RecordsInForce, before: Reading, now: Reading) -> bool:
        """Write what is missing; whether there was anything, so that all is to be read again. Raises Conflict."""
        old, new = generation(before.values, self._keys), generation(now.values, self._keys)
        if old is not None and new is not None and old.id == new.id:  # older data: cells that come later must see that, too
            await self._make_generation(now, before=old.id)
            return True
        plans = plans_to_restore(
            in_force,
            now,
            keys=self._keys,
            cell=self._cell,
            clock=self._now(),
            last_tag=self._last_tag,
            left_out=self._left_out(),
        )
        for when, do in plans:
            if await self._client.commit(when=when, do=do) is None:
                break  # another cell was quicker
        return bool(plans)

    def held(self, in_force: RecordsInForce, before: Reading, now: Reading) -> HeldRecords:
        """What is held from now on, when everything that can be is restored."""
        after = revision_of_loss(before, now, self._keys)
        held = records_to_hold(in_force, now, after=after, keys=self._keys, cell=self._cell)
        self.clashes = tuple(clashes(in_force, now.values, keys=self._keys, left_out=self._left_out()))
        log.get("store").warning("etcd_data_written_back", held=len(held), clashes=len(self.clashes))
        return HeldRecords(held, after)

    async def _make_generation(self, found: Reading, *, before: str) -> None:
        """One of the cells that try it succeeds."""
        key = self._keys.generation
        record = records.GenerationRecord(id=self._fresh(), before=before)
        await self._client.commit(when=[unchanged(key, found.values.get(key))], do=[put(key, record.data())])
