"""What the operator has given up of what was lost, so that no cell holds it any more. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import Value, put, unchanged
from agent.store.etcd.keys import Keys
from agent.store.etcd.loss.generation import generation
from agent.store.etcd.transactions import Plan


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
