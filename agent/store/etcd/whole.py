"""Many writes as one transaction: etcd takes 128 operations, but one of them can be a transaction.

A level may have what the levels above it have left of the 128 (etcd's checkTxnRequest), so three levels take 77,000. What
limits them then is the size of the request.
"""

from collections.abc import Sequence

from agent.errors import InvalidInput
from agent.store.etcd import rpc_pb2 as rpc

LEVEL = 128  # etcd's --max-txn-ops
BYTES = 1_570_000  # etcd's --max-request-bytes is 1.5 MiB, which it compares with a little more than the request


def whole(writes: Sequence[rpc.RequestOp]) -> list[rpc.RequestOp]:
    """The same as few enough operations. Raises InvalidInput where they are too large for one request.

    The first stays where it is: some versions of etcd do not ask for the rights of what is inside another transaction.
    """
    found = [*writes[:1], *_nested(writes[1:], level=LEVEL - 1)]
    size = rpc.TxnRequest(success=found).ByteSize()
    if size > BYTES:
        raise InvalidInput(
            f"these {len(writes)} records are {size} bytes, and etcd takes {BYTES} at once: nothing was written",
            hint="split them, and apply one part after the other",
        )
    return found


def _nested(writes: Sequence[rpc.RequestOp], *, level: int) -> list[rpc.RequestOp]:
    if len(writes) <= level:
        return list(writes)
    width = level // 2 if len(writes) <= (level // 2) ** 2 else level // 3
    size = -(-len(writes) // width)
    parts = [writes[start : start + size] for start in range(0, len(writes), size)]
    return [rpc.RequestOp(request_txn=rpc.TxnRequest(success=_nested(part, level=level - width))) for part in parts]
