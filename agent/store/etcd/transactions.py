"""Tags as transactions: what a change of claims writes, and what it expects to find. Pure.

The record of a number is compared by all who take that number, so that only one of them succeeds.
"""

from collections.abc import Iterable, Mapping

from agent.model.names import AppName
from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import Value, put, remove, unchanged
from agent.store.etcd.keys import Keys
from agent.store.tags import Claims, TagClaim

OPERATIONS = 120  # of one transaction; etcd takes 128
Plan = tuple[list[rpc.Compare], list[rpc.RequestOp]]


def claim_plans(before: Claims, after: Mapping[AppName, TagClaim], *, keys: Keys, values: Mapping[str, Value]) -> list[Plan]:
    """From `before`, which is what `values` say, to `after`: in as few transactions as it takes."""
    losers = {before[app].tag: app for app in before if app not in after}
    return joined(
        _claim_plan(app, before=before.get(app), after=held, loser=losers.get(held.tag), keys=keys, values=values)
        for app, held in after.items()
        if (known := before.get(app)) is not held and known != held
    )


def _claim_plan(
    app: AppName,
    *,
    before: TagClaim | None,
    after: TagClaim,
    loser: AppName | None,
    keys: Keys,
    values: Mapping[str, Value],
) -> Plan:
    key = keys.app(app)
    when, do = [unchanged(key, values.get(key))], [put(key, records.claim_data(after))]
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
    """The same, each transaction with as much as etcd takes; none of `plans` is torn."""
    found: list[Plan] = []
    for when, do in plans:
        if not found or max(len(found[-1][0]) + len(when), len(found[-1][1]) + len(do)) > OPERATIONS:
            found.append(([], []))
        found[-1][0].extend(when)
        found[-1][1].extend(do)
    return found
