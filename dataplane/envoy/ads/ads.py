"""The delta ADS server: keeps every connected Envoy at the published table, and knows what Envoy has of it.

Lives on the daemon's event loop; nothing here may be called from another thread. The shell around `stream` and
`subscription`, where the protocol is. The socket's directory decides what may connect: only root and Envoy's
group can enter it (gRPC hands out no peer credentials).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from urllib.parse import quote

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from dataplane.envoy.ads.resource import EXTENSION, LISTENER, SECRET, ResourceKey
from dataplane.envoy.ads.stream import Stream
from dataplane.envoy.ads.table import ResourceTable
from host.durable import make_folder
from host.errors import HostRefused, Unavailable

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
LONGEST_PATH = 107  # of a unix socket's address, in bytes

_Context = grpc.aio.ServicerContext[DeltaDiscoveryRequest, DeltaDiscoveryResponse]


@dataclass(frozen=True, slots=True)
class EnvoyStatus:
    """What the newest connected Envoy has reported. `refused`: its words about each resource that it does not take.

    `connections` is how many there have ever been, so that a new one is seen.

    `pushed` and `acknowledged` count resources (put or removed) since the server began, over all streams.
    """

    connected: bool
    connections: int
    refused: Mapping[ResourceKey, str]
    pushed: int
    acknowledged: int


@dataclass(eq=False, slots=True)
class _EnvoyConnection:
    """A stream and what its writer waits for. `ended` is set when its reader has come to the end."""

    stream: Stream
    wake: asyncio.Event
    ended: bool = False

    @property
    def started(self) -> float:
        """When its Envoy was, in seconds; what is not known yet is newer than what is."""
        return inf if self.stream.started is None else self.stream.started


class AdsServer:
    """Serves one table to Envoy on the unix socket `path`; its directory becomes root's and `gid`'s alone.

    `beside` are other services for Envoy on the same socket.
    """

    def __init__(self, path: Path, *, gid: int = 0, beside: Sequence[grpc.GenericRpcHandler] = ()) -> None:
        self._path = path
        self._gid = gid
        self._beside = tuple(beside)
        self._server: grpc.aio.Server | None = None
        self._published = ResourceTable()
        self._withheld: frozenset[ResourceKey] = frozenset()
        self._table = ResourceTable()  # what is published and not withheld
        self._connections: list[_EnvoyConnection] = []  # one; two while an Envoy hands over to the next one, for a while
        self._news = asyncio.Condition()
        self._times_connected = 0  # of an Envoy; before the first, one may run that has yet to find us
        self._past_pushed = 0
        self._past_acknowledged = 0

    async def start(self) -> None:
        """Listen. Raises HostRefused if the socket cannot be made. A socket file that a dead agent left is replaced."""
        if len(os.fsencode(self._path)) > LONGEST_PATH:
            raise HostRefused(f"the path of Envoy's socket is too long: {self._path}", hint="use a shorter --root")
        try:
            make_folder(self._path.parent, mode=0o710)
            os.chown(self._path.parent, 0, self._gid)
            self._path.parent.chmod(0o710)
            self._server = await self._listen()
            os.chown(self._path, 0, self._gid)
            self._path.chmod(0o660)
        except Exception as error:
            await self.stop()
            raise HostRefused(f"cannot listen on {self._path}: {error}", hint="see what else uses that path") from error

    async def _listen(self) -> grpc.aio.Server:
        server = grpc.aio.server()
        method = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=DeltaDiscoveryRequest.FromString,
            response_serializer=DeltaDiscoveryResponse.SerializeToString,
        )
        own = grpc.method_handlers_generic_handler(SERVICE, {"DeltaAggregatedResources": method})
        server.add_generic_rpc_handlers((own, *self._beside))
        server.add_insecure_port(f"unix:{quote(str(self._path))}")
        await server.start()
        return server

    async def stop(self) -> None:
        """End every stream. Envoy keeps what it has, and connects again by itself."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    def publish(self, resources: ResourceTable) -> None:
        """From now on this is what Envoy should have; what differs is sent, in the order that is safe."""
        self._published = resources
        table = resources.changed({}, drop=self._withheld)
        for connection in self._connections:
            for type_url, subscription in connection.stream.subscriptions.items():
                before, after = self._table.named(type_url), table.named(type_url)
                subscription.withdraw({name for name in subscription.refused if name in before and name not in after})
        self._table = table
        self._wake()

    def retry(self) -> None:
        """Send again what Envoy has refused: what stood in its way (an address in use) may be gone."""
        for connection in self._connections:
            for subscription in connection.stream.subscriptions.values():
                subscription.retry()
        self._wake()

    def withhold(self, keys: Collection[ResourceKey]) -> None:
        """From now on Envoy is to be without these, though they are published, and with those that were withheld before."""
        withheld = frozenset(keys)
        if withheld != self._withheld:
            self._withheld = withheld
            self.publish(self._published)

    def has(self, versions: Mapping[ResourceKey, str | None]) -> bool:
        """Whether the newest Envoy has acknowledged exactly these versions."""
        if not self._connections:
            return False
        stream = self._newest()
        return all(stream.acknowledged_version(key) == version or _is_absent(key, version) for key, version in versions.items())

    def listeners(self) -> frozenset[str] | None:
        """The names of those that the newest Envoy has in some version; None where none is connected, or it is yet to say."""
        if not self._connections:
            return None
        subscription = self._newest().subscriptions.get(LISTENER)
        return None if subscription is None else frozenset(subscription.acknowledged)

    def lacks(self, key: ResourceKey, version: str, *, needed_by: ResourceKey) -> bool:
        """Whether an Envoy may go by another version of `key`, which it asks for by name while it has `needed_by`.

        Any of them counts: one that has handed over still judges the streams of tunnels that it has. Where none is connected
        one may run that has yet to find us.
        """
        lacking = (each.stream.lacks(key, version, needed_by=needed_by) for each in self._connections)
        return not self._connections or any(lacking)

    def _newest(self) -> Stream:
        """Of the Envoy that was started last; it serves new callers."""
        return max(self._connections, key=lambda each: each.started).stream

    async def until(self, true: Callable[[], bool], *, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- no error
        """Return when Envoy has made something true, or after `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(true)

    def _wake(self) -> None:
        for connection in self._connections:
            connection.wake.set()

    async def settled(self, versions: Mapping[ResourceKey, str | None], *, timeout: float) -> None:  # noqa: ASYNC109 -- its error names what was not answered
        """Return when Envoy has acknowledged these versions, or those published for the same names since (None: absence).

        Raises HostRefused with Envoy's words when it refuses one of them, and Unavailable when it is not connected or has
        not answered after `timeout` seconds. Publish first. The absence of what Envoy asks for by name is its own business and
        never waited for.
        An Envoy that was connected and is not any more has ended and has nothing: absence alone is settled then.
        """
        try:
            async with asyncio.timeout(timeout), self._news:
                while not self._has(versions):
                    await self._news.wait()
        except TimeoutError as error:
            if not self._connections:
                hint = "`cellnet status` says what keeps it; its unit, or `cellnet up`, starts it again by itself"
                raise Unavailable("Envoy is not connected", hint=hint) from error
            missing = ", ".join(str(key) for key, version in versions.items() if not self._is_settled(key, version))
            if not missing:
                return
            raise Unavailable(f"Envoy has not taken {missing} within {timeout:g} s", hint="see Envoy's log") from error

    def _has(self, versions: Mapping[ResourceKey, str | None]) -> bool:
        if not self._connections:
            return bool(self._times_connected) and bool(versions) and not any(versions.values())
        # every one is looked at before the answer: a refusal is final, whatever else is still on its way
        settled = [self._is_settled(key, version) for key, version in versions.items()]
        return all(settled)

    def _is_settled(self, key: ResourceKey, version: str | None) -> bool:
        stream = self._newest()
        published = self._table.named(key.type_url).get(key.name)
        wanted = published.version if published and version else version
        refusal = stream.refusal(key)
        if refusal and refusal.version == wanted:
            raise HostRefused(f"Envoy refused {key}: {refusal.words}", hint="these are Envoy's own words")
        if _is_absent(key, wanted):
            return True
        return stream.acknowledged_version(key) == wanted

    def status(self) -> EnvoyStatus:
        """As of now; see EnvoyStatus."""
        streams = [connection.stream for connection in self._connections]
        refusals = self._newest().refusals() if streams else {}
        return EnvoyStatus(
            connected=bool(streams),
            connections=self._times_connected,
            refused={key: refusal.words for key, refusal in refusals.items()},
            pushed=self._past_pushed + sum(stream.pushed for stream in streams),
            acknowledged=self._past_acknowledged + sum(stream.acknowledged for stream in streams),
        )

    async def _serve(self, requests: AsyncIterator[DeltaDiscoveryRequest], context: _Context) -> None:
        connection = _EnvoyConnection(Stream(), asyncio.Event())
        self._connections.append(connection)
        self._times_connected += 1
        try:
            # the reader's owner is this group; both end with the stream
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(connection, requests))
                await self._write(connection, context)
        except* ValueError as wrong:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(wrong.exceptions[0]))
        finally:
            self._connections.remove(connection)
            self._past_pushed += connection.stream.pushed
            self._past_acknowledged += connection.stream.acknowledged
            async with self._news:
                self._news.notify_all()

    async def _read(self, connection: _EnvoyConnection, requests: AsyncIterator[DeltaDiscoveryRequest]) -> None:
        try:
            async for request in requests:
                connection.stream.receive(request)
                connection.wake.set()
                async with self._news:
                    self._news.notify_all()
        finally:
            connection.ended = True
            connection.wake.set()

    async def _write(self, connection: _EnvoyConnection, context: _Context) -> None:
        while not connection.ended:
            connection.wake.clear()
            while push := connection.stream.next_push(self._table):
                await context.write(push)
            await connection.wake.wait()


def _is_absent(key: ResourceKey, version: str | None) -> bool:
    """Whether Envoy is to be without what it asks for by name: it keeps that until a listener that needs it has drained."""
    return version is None and key.type_url in (SECRET, EXTENSION)
