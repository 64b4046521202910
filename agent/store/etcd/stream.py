"""Reading a stream of etcd that may fall silent: a dead network closes no connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from agent.errors import HostRefused, Unavailable
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.errors import Compacted


async def answers(call: Any, *, silent: float) -> AsyncIterator[Any]:
    """What the stream brings, until its end. After half of `silent` seconds without a word a sign of life is asked for.

    Raises TimeoutError after all of them, grpc.RpcError when the connection breaks, and Compacted, Unavailable or HostRefused
    where etcd ends a watch.
    """
    while (answer := await _next(call, silent=silent)) is not grpc.aio.EOF:
        if isinstance(answer, rpc.WatchResponse) and answer.canceled:
            raise _ended(answer)
        yield answer


async def _next(call: Any, *, silent: float) -> Any:
    """A read that is cancelled would end the stream: so it is a task, and what is given up is the waiting for it."""
    reading = asyncio.get_running_loop().create_task(call.read())
    try:
        if not (await asyncio.wait({reading}, timeout=silent / 2))[0]:
            await call.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
            if not (await asyncio.wait({reading}, timeout=silent / 2))[0]:
                raise TimeoutError
        return await reading
    finally:
        reading.cancel()


def _ended(answer: rpc.WatchResponse) -> Compacted | HostRefused | Unavailable:
    if answer.compact_revision:
        return Compacted()
    if "permission" in answer.cancel_reason:
        hint = "the user of store.etcd needs to read all below the prefix"
        return HostRefused(f"etcd ended the watch: {answer.cancel_reason}", hint=hint)
    return Unavailable(f"etcd ended the watch: {answer.cancel_reason}", hint="it is tried again by itself")
