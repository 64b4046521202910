"""etcd's calls that cellnet needs, over one of several endpoints, with a token where a user is configured.

A call goes to the endpoint that answered last, and when that does not answer it is made again at the next. Reads may be, and
every transaction of ours says what it expects to find, so that a second one finds its own work done and fails its comparison.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from agent.config.etcd import Etcd, EtcdEndpoint
from agent.errors import RAISED, HostRefused, Unavailable
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.connection import Access
from agent.store.etcd.errors import Compacted, NoSuchLease, refused
from agent.store.etcd.stream import answers

SECONDS = 3.0  # for one call to one endpoint
SILENT = 6.0  # for a watch: halfway it is asked for a sign of life
UNSURE = "it may have been done all the same: look when etcd answers, then ask again; twice does no harm"
READINGS = 10  # of everything, begun anew where etcd is compacted meanwhile
PAGE = 5_000  # records of one answer; gRPC's limit is by size
LEADER = ("hasleader", "true")  # a member that lost its quorum says so instead of being silent

Request = Any  # a protobuf message; the generated classes have no common type with fields
Answer = TypeVar("Answer")
_TOKEN_GONE = (grpc.StatusCode.UNAUTHENTICATED,)
_GO_ON = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Value:
    """A record: its bytes, the revision of its last change, and its lease (0 without)."""

    data: bytes
    revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """All records below a prefix as they were at `revision` of the cluster `cluster`."""

    values: dict[str, Value]
    revision: int
    cluster: int


@dataclass(frozen=True, slots=True)
class Changed:
    """One record's change, made at `revision`; None is a deletion."""

    key: str
    value: Value | None
    revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What changed, in order: all there is up to and including `revision`, which is 0 where nothing is said of that.

    `seen` is how far the member that answered is: it may know of changes that it has not told yet, and may lag behind others.
    """

    changes: tuple[Changed, ...]
    revision: int
    seen: int
    cluster: int


class EtcdClient:
    """One per store. Every method raises Unavailable when no endpoint answers, HostRefused when etcd refuses us."""

    def __init__(self, etcd: Etcd, *, seconds: float = SECONDS, access: Access | None = None) -> None:
        self._etcd = etcd
        self._access = access or Access(etcd)
        self._writers: ContextVar[Sequence[EtcdClient]] = ContextVar("writers", default=())
        self._seconds = seconds
        self._channels: dict[EtcdEndpoint, tuple[object, grpc.aio.Channel]] = {}
        self._former: list[grpc.aio.Channel] = []  # a watch may go on there: one for each time that a certificate is renewed
        self._first = 0
        self._token: str | None = None

    async def close(self) -> None:
        """Give up its connections. It may be used again."""
        channels = [*self._former, *(channel for _, channel in self._channels.values())]
        self._channels, self._former = {}, []
        for channel in channels:
            await channel.close()

    async def read(self, prefix: str) -> Found:
        """All records whose key begins with `prefix`, at one revision."""
        for _ in range(READINGS):
            with contextlib.suppress(Compacted):  # that revision, between two pages
                return await self._read(prefix)
        raise Unavailable("etcd is compacted again and again while it is read", hint="see its --auto-compaction-retention")

    async def _read(self, prefix: str) -> Found:
        values: dict[str, Value] = {}
        revision, start, end = 0, prefix.encode(), after(prefix.encode())
        while True:
            asked = rpc.RangeRequest(key=start, range_end=end, limit=PAGE, revision=revision)
            answer = await self._call("KV/Range", asked, rpc.RangeResponse)
            revision = revision or answer.header.revision
            values.update((_text(kv.key), Value(kv.value, kv.mod_revision, kv.lease)) for kv in answer.kvs)
            if not answer.more:
                return Found(values, revision, answer.header.cluster_id)
            start = answer.kvs[-1].key + b"\0"

    async def is_all(self, prefix: str, *, count: int, revision: int) -> bool:
        """Whether the `count` records of `revision` are all there is by now: none has come, changed or gone since."""
        asked = rpc.RangeRequest(
            key=prefix.encode(), range_end=after(prefix.encode()), limit=1, keys_only=True, min_mod_revision=revision + 1
        )
        answer = await self._call("KV/Range", asked, rpc.RangeResponse)
        return not answer.kvs and answer.count == count

    async def commit(self, *, when: Sequence[rpc.Compare] = (), do: Sequence[rpc.RequestOp]) -> int | None:
        """`do` if all of `when` hold, all at once: the revision that it made; None, and nothing done, if one does not.

        After Unavailable nobody knows: an etcd that stood still finds the transaction waiting when it goes on.
        """
        writers = self._writers.get()
        if writers:
            return await writers[0].commit(when=when, do=do)
        asked = rpc.TxnRequest(compare=when, success=do)
        try:
            answer = await self._call("KV/Txn", asked, rpc.TxnResponse)
        except Unavailable as error:
            raise Unavailable(error.what, hint=UNSURE) from error
        return answer.header.revision if answer.succeeded else None

    @contextlib.contextmanager
    def written_by(self, other: "EtcdClient") -> Iterator[None]:
        """Until the end of this, what the caller's task commits here is committed by `other`, with its rights."""
        writers = [other]
        before = self._writers.set(writers)
        try:
            yield
        finally:
            writers.clear()  # for what may have been started meanwhile, and goes on
            self._writers.reset(before)

    async def grant(self, seconds: int) -> int:
        """A new lease: what is written under it goes when nobody has kept it for so long."""
        answer = await self._call("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=seconds), rpc.LeaseGrantResponse)
        return int(answer.ID)

    async def keep(self, lease: int) -> None:
        """Let the lease begin anew. Raises NoSuchLease when it has run out."""

        async def once(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> Any:
            method = _method(channel.stream_stream, "Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
            call = method(iter([rpc.LeaseKeepAliveRequest(ID=lease)]), metadata=metadata, timeout=self._seconds)
            try:
                answer = await call.read()
            finally:
                call.cancel()
            if answer is grpc.aio.EOF:
                raise Unavailable("etcd ended a stream without an answer")
            return answer

        answer = await self._anywhere(once)
        if answer.TTL <= 0:
            raise NoSuchLease()

    async def revoke(self, lease: int) -> None:
        """End a lease now, and with it what hangs on it. One that is gone is fine."""
        with contextlib.suppress(NoSuchLease):
            await self._call("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease), rpc.LeaseRevokeResponse)

    async def watch(self, prefix: str, *, since: int, silent: float = SILENT) -> AsyncIterator[Batch]:
        """Every change below `prefix` after revision `since`, in order, each once, until the connection breaks.

        Then, and when nothing is heard for `silent` seconds, it raises Unavailable: watch again from the last revision.
        Raises Compacted when the changes since then are no longer kept: read everything again.
        """
        key, parts = prefix.encode(), list[Changed]()
        create = rpc.WatchCreateRequest(
            key=key, range_end=after(key), start_revision=since + 1, progress_notify=True, fragment=True
        )
        try:
            async with self._stream("Watch/Watch", rpc.WatchResponse) as call:
                async with asyncio.timeout(self._seconds):
                    await call.write(rpc.WatchRequest(create_request=create))
                async for answer in answers(call, silent=silent):
                    parts += (_changed(event) for event in answer.events)
                    if not answer.fragment:
                        yield _batch(tuple(parts), answer)
                        parts.clear()
        except RAISED:
            raise
        except Exception as error:
            self._after(error)
            raise refused(error, self._etcd) from error

    @contextlib.asynccontextmanager
    async def _stream(self, name: str, answer: Callable[..., Answer]) -> AsyncIterator[Any]:
        channel, metadata = await self._ready()
        call = _method(channel.stream_stream, name, answer)(metadata=(*metadata, LEADER))
        try:
            yield call
        finally:
            call.cancel()

    async def _call(self, name: str, request: Request, answer: Callable[..., Answer]) -> Any:
        async def once(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> Any:
            method = _method(channel.unary_unary, name, answer)
            return await method(request, metadata=metadata, timeout=self._seconds)

        return await self._anywhere(once)

    async def _anywhere(self, once: Callable[[grpc.aio.Channel, tuple[tuple[str, str], ...]], Awaitable[Any]]) -> Any:
        """`once` at each endpoint until one answers; with a new token if the old one is not taken."""
        last: Exception | None = None
        for _ in range(len(self._etcd.endpoints) + 1):
            try:
                channel, metadata = await self._ready()
                return await once(channel, metadata)
            except RAISED:
                raise
            except Exception as error:
                last = error
                if not self._after(error):
                    raise refused(error, self._etcd) from error
        assert last is not None
        raise refused(last, self._etcd) from last

    async def _ready(self) -> tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]:
        """A channel and the metadata of a call."""
        endpoint = self._etcd.endpoints[self._first % len(self._etcd.endpoints)]
        channel = self._channel(endpoint)
        if self._etcd.username is None:
            return channel, ()
        if self._token is None:
            method = _method(channel.unary_unary, "Auth/Authenticate", rpc.AuthenticateResponse)
            asked = rpc.AuthenticateRequest(name=self._etcd.username, password=self._access.password())
            self._token = (await method(asked, timeout=self._seconds)).token
        return channel, (("token", self._token),)

    def _channel(self, endpoint: EtcdEndpoint) -> grpc.aio.Channel:
        stamp, held = self._access.stamp(), self._channels.get(endpoint)
        if held is not None and held[0] == stamp:
            return held[1]
        try:
            made = self._access.channel(endpoint)
        except HostRefused:
            if held is None:
                raise
            return held[1]  # files that somebody is about to replace, or has lost
        if held is not None:
            self._former.append(held[1])
        self._channels[endpoint] = (stamp, made)
        return made

    def _after(self, error: Exception) -> bool:
        """What the next try must do otherwise; False if it would end the same."""
        if isinstance(error, grpc.RpcError):
            if self._token is not None and _token_gone(error):
                self._token = None
                return True
            if error.code() not in _GO_ON:
                return False
        self._first += 1
        return True


def after(prefix: bytes) -> bytes:
    """The first key that is behind all that begin with `prefix`."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"


def absent(key: str) -> rpc.Compare:
    """Holds where the key is not there."""
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.CREATE, key=key.encode(), create_revision=0)


def unchanged(key: str, value: Value | None) -> rpc.Compare:
    """Holds where the key is as it was read."""
    if value is None:
        return absent(key)
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.MOD, key=key.encode(), mod_revision=value.revision)


def put(key: str, data: bytes, *, lease: int = 0) -> rpc.RequestOp:
    """Write one record."""
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key.encode(), value=data, lease=lease))


def remove(key: str) -> rpc.RequestOp:
    """Delete one record."""
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key.encode()))


def _text(key: bytes) -> str:
    """Ours are ASCII; somebody else's may be anything."""
    return key.decode(errors="backslashreplace")


def _method(kind: Callable[..., Any], name: str, answer: Any) -> Any:
    return kind(
        f"/etcdserverpb.{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )


def _changed(event: rpc.Event) -> Changed:
    key, kv = _text(event.kv.key), event.kv
    value = None if event.type == rpc.Event.DELETE else Value(kv.value, kv.mod_revision, kv.lease)
    return Changed(key, value, kv.mod_revision)


def _batch(changes: tuple[Changed, ...], answer: rpc.WatchResponse) -> Batch:
    """Without changes it is a report of progress, except for the first one, which is sent before the watch has begun."""
    idle = 0 if answer.created else answer.header.revision
    told = max((change.revision for change in changes), default=idle)
    return Batch(changes, told, answer.header.revision, answer.header.cluster_id)


def _token_gone(error: grpc.RpcError) -> bool:
    """etcd says it with the code of a wrong argument too (a restarted member has forgotten its simple tokens)."""
    return error.code() in _TOKEN_GONE or "invalid auth token" in (error.details() or "")
