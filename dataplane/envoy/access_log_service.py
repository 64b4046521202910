"""Where Envoy's access log comes in: on the agent's socket, beside ADS, a stream for each of Envoy's workers.

What a flood of refusals takes of the agent is bounded: so many entries a second are read, of all workers together. What comes
beyond that fills Envoy's own buffers, and is dropped and counted there. What an audit lets in is a log of its own, with a bound
of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse

from dataplane.envoy.access_log import AUDITED, REFUSED
from dataplane.envoy.refusal import Refusal, refusals

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
ENTRIES_A_SECOND = 1_000  # each takes a tenth of a millisecond
AUDITS_A_SECOND = 500

_Context = grpc.aio.ServicerContext[StreamAccessLogsMessage, StreamAccessLogsResponse]


class AccessLogService:
    """`take` hears of the refusals in each message; it must be quick."""

    def __init__(self, take: Callable[[Sequence[Refusal]], None]) -> None:
        self._take = take
        self._next_read: dict[str, float] = {}  # by the name of a log; by the loop's clock

    def handler(self) -> grpc.GenericRpcHandler:
        """For a server's list."""
        method = grpc.stream_unary_rpc_method_handler(
            self._serve,
            request_deserializer=StreamAccessLogsMessage.FromString,
            response_serializer=StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": method})

    async def _serve(self, messages: AsyncIterator[StreamAccessLogsMessage], _context: _Context) -> StreamAccessLogsResponse:
        name = REFUSED
        async for message in messages:
            name = message.identifier.log_name or name  # it is in the first one alone
            self._take(tuple(refusals(message)))
            entries = len(message.http_logs.log_entry) + len(message.tcp_logs.log_entry)
            now = asyncio.get_running_loop().time()
            most = AUDITS_A_SECOND if name == AUDITED else ENTRIES_A_SECOND
            self._next_read[name] = max(self._next_read.get(name, 0.0), now) + entries / most
            await asyncio.sleep(self._next_read[name] - now)
        return StreamAccessLogsResponse()
