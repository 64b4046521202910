"""Changes as etcd's transactions: what is written, what is compared before, and how much fits into one. Pure.

Taking a tag compares the record of its number, which is one for all cells: of two that take the same number one succeeds.
"""

from collections.abc import Iterable, Mapping, Sequence

from agent.errors import InvalidInput
from agent.model.names import AppName
from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import Value, put, remove, unchanged
from agent.store.etcd.keys import Keys
from agent.store.tags import Claims, TagChanges, TagClaim

MAX_OPERATIONS = 128  # etcd's --max-txn-ops
OPERATIONS = 120  # of one transaction
BYTES = 1_570_000  # etcd's --max-request-bytes is 1.5 MiB, which it compares with a little more than the request
Plan = tuple[list[rpc.Compare], list[rpc.RequestOp]]


def tag_plans(before: Claims, changes: TagChanges, *, keys: Keys, values: Mapping[str, Value]) -> list[Plan]:
    """What changes `before`, which is what `values` mean: in as few transactions as it takes."""
    losers = {before[app].tag: app for app, claim in changes.items() if claim is None}
    return joined(
        _tag_plan(app, before=before.get(app), after=claim, loser=losers.get(claim.tag), keys=keys, values=values)
        for app, claim in changes.items()
        if claim is not None
    )


def _tag_plan(
    app: AppName,
    *,
    before: TagClaim | None,
    after: TagClaim,
    loser: AppName | None,
    keys: Keys,
    values: Mapping[str, Value],
) -> Plan:
    key = keys.app(app)
    when, do = [unchanged(key, values.get(key))], [put(key, records.encode_tag(after))]
    if before is None or before.tag != after.tag:
        number = keys.number(after.tag)
        when.append(unchanged(number, values.get(number)))
        do.append(put(number, str(app).encode()))
    if loser is not None:
        lost = keys.app(loser)
        when.append(unchanged(lost, values.get(lost)))
        do.append(remove(lost))
    return when, do


def joined(plans: Iterable[Plan]) -> list[Plan]:
    """The same plans, as many to a transaction as fit; none of them is torn."""
    found: list[Plan] = []
    for when, do in plans:
        if not found or max(len(found[-1][0]) + len(when), len(found[-1][1]) + len(do)) > OPERATIONS:
            found.append(([], []))
        found[-1][0].extend(when)
        found[-1][1].extend(do)
    return found


def nested(writes: Sequence[rpc.RequestOp]) -> list[rpc.RequestOp]:
    """Many writes as the operations of one transaction. Raises InvalidInput where they are too large for one request.

    etcd takes 128 operations, one of which can be a transaction. A level may have what the levels above it have left of the
    128 (etcd's checkTxnRequest), so three levels take 77,000; what limits them then is the size of the request.

    The first stays where it is: some versions of etcd check no rights inside a nested transaction.
    """
    found = [*writes[:1], *_levels(writes[1:], left=MAX_OPERATIONS - 1)]
    size = rpc.TxnRequest(success=found).ByteSize()
    if size > BYTES:
        raise InvalidInput(
            f"these {len(writes)} records are {size} bytes, and etcd takes {BYTES} at once: nothing was written",
            hint="split them, and apply one part after the other",
        )
    return found


def _levels(writes: Sequence[rpc.RequestOp], *, left: int) -> list[rpc.RequestOp]:
    if len(writes) <= left:
        return list(writes)
    width = left // 2 if len(writes) <= (left // 2) ** 2 else left // 3
    size = -(-len(writes) // width)
    parts = [writes[start : start + size] for start in range(0, len(writes), size)]
    return [rpc.RequestOp(request_txn=rpc.TxnRequest(success=_levels(part, left=left - width))) for part in parts]
