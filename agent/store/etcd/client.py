"""etcd's calls that cellnet needs, over one of several endpoints, with a token where a user is configured.

A call goes to the endpoint that answered last, and is repeated at the next one where that does not answer. Repeating is safe:
a transaction compares what it expects to find, so a second one finds the first one's work and does nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from agent.config.etcd import Etcd, EtcdEndpoint
from agent.errors import RAISED, HostRefused, Unavailable
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.connection import EtcdAccess, answers
from agent.store.etcd.errors import Compacted, NoSuchLease, refused

SECONDS = 3.0  # for one call to one endpoint
SILENT = 6.0  # for a watch: halfway it is asked for progress
UNSURE = "it may have been done all the same: look when etcd answers, then ask again; twice does no harm"
READINGS = 10  # of everything: begun anew where etcd is compacted meanwhile
PAGE = 5_000  # records of one answer; gRPC's limit is by size
LEADER = ("hasleader", "true")  # a member that has lost its quorum then ends the stream instead of falling silent

Request = Any  # a protobuf message; the generated classes have no common type with fields
Answer = TypeVar("Answer")
_GO_ON = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Value:
    """A record: its bytes, the revision of its last change, its lease (0 without), and the revision that made it."""

    data: bytes
    revision: int
    lease: int = 0
    created: int = 0  # 0: as an earlier agent has kept it

    @property
    def is_as_made(self) -> bool:
        """Whether it was never changed since it was made."""
        return self.created in (0, self.revision)


@dataclass(frozen=True, slots=True)
class Reading:
    """All records below a prefix as they were at `revision` of the cluster `cluster`; without a revision before the first."""

    values: Mapping[str, Value] = field(default_factory=dict)
    revision: int = 0
    cluster: int = 0


@dataclass(frozen=True, slots=True)
class RecordChange:
    """One record's change, made at `revision`; None is a deletion."""

    key: str
    value: Value | None
    revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What has changed, in order: all changes up to and including `revision`, which is 0 where the answer does not say.

    `seen` is the revision of the member that answered: it may have changes that it has not sent yet, and may lag behind others.
    """

    changes: tuple[RecordChange, ...]
    revision: int
    seen: int
    cluster: int


class EtcdClient:
    """One per store. Every method raises Unavailable when no endpoint answers, HostRefused when etcd refuses us."""

    def __init__(self, etcd: Etcd, *, seconds: float = SECONDS, access: EtcdAccess | None = None) -> None:
        self.etcd = etcd
        self._access = access or EtcdAccess(etcd)
        self._seconds = seconds
        self._channels: dict[EtcdEndpoint, tuple[object, grpc.aio.Channel]] = {}
        self._former: list[grpc.aio.Channel] = []  # of earlier certificates: a watch may go on there
        self._first = 0
        self._token: str | None = None

    async def close(self) -> None:
        """Close its connections. It may be used again."""
        channels = [*self._former, *(channel for _, channel in self._channels.values())]
        self._channels, self._former = {}, []
        for channel in channels:
            await channel.close()

    def reconnect(self) -> None:
        """Connect anew with the next call: this host's address has changed, so the connections there are may be dead.

        A watch goes on where it is, and ends when that falls silent.
        """
        self._former += (channel for _, channel in self._channels.values())
        self._channels = {}

    async def read(self, prefix: str) -> Reading:
        """All records whose key begins with `prefix`, at one revision."""
        for _ in range(READINGS):
            with contextlib.suppress(Compacted):  # between two pages of that revision
                return await self._read(prefix)
        raise Unavailable("etcd is compacted again and again while it is read", hint="see its --auto-compaction-retention")

    async def _read(self, prefix: str) -> Reading:
        values: dict[str, Value] = {}
        revision, start, end = 0, prefix.encode(), end_of(prefix.encode())
        while True:
            asked = rpc.RangeRequest(key=start, range_end=end, limit=PAGE, revision=revision)
            answer = await self._call("KV/Range", asked, rpc.RangeResponse)
            revision = revision or answer.header.revision
            values.update((_text(kv.key), _value(kv)) for kv in answer.kvs)
            if not answer.more:
                return Reading(values, revision, answer.header.cluster_id)
            start = answer.kvs[-1].key + b"\0"

    async def is_all(self, prefix: str, *, count: int, revision: int) -> bool:
        """Whether the `count` records of `revision` are still all there is: none was made, changed or deleted since."""
        asked = rpc.RangeRequest(
            key=prefix.encode(), range_end=end_of(prefix.encode()), limit=1, keys_only=True, min_mod_revision=revision + 1
        )
        answer = await self._call("KV/Range", asked, rpc.RangeResponse)
        return not answer.kvs and answer.count == count

    async def size(self) -> tuple[int, int]:
        """Bytes of the data of the member that answers, and its quota for them, 0 where it does not say (before 3.6)."""
        answer = await self._call("Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse)
        return answer.dbSize, answer.dbSizeQuota

    async def commit(self, *, when: Sequence[rpc.Compare] = (), do: Sequence[rpc.RequestOp]) -> int | None:
        """`do` if all of `when` hold, all at once: the revision that it made; None, and nothing done, if one does not.

        After Unavailable it may have been done or not: an etcd that stood still takes the waiting transaction when it goes on.
        """
        asked = rpc.TxnRequest(compare=when, success=do)
        try:
            answer = await self._call("KV/Txn", asked, rpc.TxnResponse)
        except Unavailable as error:
            raise Unavailable(error.what, hint=UNSURE) from error
        return answer.header.revision if answer.succeeded else None

    async def grant(self, seconds: int) -> int:
        """A new lease: what is written under it is deleted when the lease is not kept for so long."""
        answer = await self._call("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=seconds), rpc.LeaseGrantResponse)
        return int(answer.ID)

    async def keep(self, lease: int) -> None:
        """Renew the lease. Raises NoSuchLease when it has run out."""

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
        """End a lease now, and delete what was written under it. One that is gone is fine."""
        with contextlib.suppress(NoSuchLease):
            await self._call("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease), rpc.LeaseRevokeResponse)

    async def watch(self, prefix: str, *, since: int, silent: float = SILENT) -> AsyncIterator[Batch]:
        """Every change below `prefix` after revision `since`, in order, each once, until the connection breaks.

        Then, and after `silent` seconds without an answer, it raises Unavailable: watch again from the last revision.
        Raises Compacted when the changes since then are no longer kept: read everything again.
        """
        key, parts = prefix.encode(), list[RecordChange]()
        create = rpc.WatchCreateRequest(
            key=key, range_end=end_of(key), start_revision=since + 1, progress_notify=True, fragment=True
        )
        try:
            async with self._stream("Watch/Watch", rpc.WatchResponse) as call:
                async with asyncio.timeout(self._seconds):
                    await call.write(rpc.WatchRequest(create_request=create))
                async for answer in answers(call, silent=silent):
                    parts += (_change(event) for event in answer.events)
                    if not answer.fragment:
                        yield _batch(tuple(parts), answer)
                        parts.clear()
        except (*RAISED, Compacted):
            raise
        except Exception as error:
            self._prepare_retry(error)
            raise refused(error, self.etcd) from error

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
        """`once` at each endpoint until one answers; with a new token if the old one is refused."""
        last: Exception | None = None
        for _ in range(len(self.etcd.endpoints) + 1):
            try:
                channel, metadata = await self._ready()
                return await once(channel, metadata)
            except RAISED:
                raise
            except Exception as error:
                last = error
                if not self._prepare_retry(error):
                    raise refused(error, self.etcd) from error
        assert last is not None
        raise refused(last, self.etcd) from last

    async def _ready(self) -> tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]:
        """A channel and the metadata of a call."""
        endpoint = self.etcd.endpoints[self._first % len(self.etcd.endpoints)]
        channel = self._channel(endpoint)
        if self.etcd.username is None:
            return channel, ()
        if self._token is None:
            method = _method(channel.unary_unary, "Auth/Authenticate", rpc.AuthenticateResponse)
            asked = rpc.AuthenticateRequest(name=self.etcd.username, password=self._access.password())
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
            return held[1]  # its files are being replaced, or are lost
        if held is not None:
            self._former.append(held[1])
        self._channels[endpoint] = (stamp, made)
        return made

    def _prepare_retry(self, error: Exception) -> bool:
        """Take a new token or the next endpoint for the next try; False where that would change nothing."""
        if isinstance(error, grpc.RpcError):
            if self._token is not None and _token_gone(error):
                self._token = None
                return True
            if error.code() not in _GO_ON:
                return False
        self._first += 1
        return True


def end_of(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`."""
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


def untouched(key: str, *, since: int, below: bool = False) -> rpc.Compare:
    """Holds where nothing has written the key after revision `since`; with `below`, nothing any key that begins with it."""
    start = key.encode()
    end = end_of(start) if below else b""
    return rpc.Compare(result=rpc.Compare.LESS, target=rpc.Compare.MOD, key=start, range_end=end, mod_revision=since + 1)


def put(key: str, data: bytes, *, lease: int = 0) -> rpc.RequestOp:
    """Write one record."""
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key.encode(), value=data, lease=lease))


def remove(key: str) -> rpc.RequestOp:
    """Delete one record."""
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key.encode()))


def remove_below(prefix: str) -> rpc.RequestOp:
    """Delete all records whose key begins so."""
    key = prefix.encode()
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end_of(key)))


def _text(key: bytes) -> str:
    """cellnet's keys are ASCII; other keys may be anything."""
    return key.decode(errors="backslashreplace")


def _value(kv: rpc.KeyValue) -> Value:
    return Value(kv.value, kv.mod_revision, kv.lease, kv.create_revision)


def _method(kind: Callable[..., Any], name: str, answer: Any) -> Any:
    return kind(
        f"/etcdserverpb.{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )


def _change(event: rpc.Event) -> RecordChange:
    key, kv = _text(event.kv.key), event.kv
    value = None if event.type == rpc.Event.DELETE else _value(kv)
    return RecordChange(key, value, kv.mod_revision)


def _batch(changes: tuple[RecordChange, ...], answer: rpc.WatchResponse) -> Batch:
    """Without changes it is a report of progress, except for the first one, which is sent before the watch has begun."""
    progress = 0 if answer.created else answer.header.revision
    revision = max((change.revision for change in changes), default=progress)
    return Batch(changes, revision, answer.header.revision, answer.header.cluster_id)


def _token_gone(error: grpc.RpcError) -> bool:
    """A restarted member has forgotten its simple tokens, and reports that with the code of a wrong argument."""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED or "invalid auth token" in (error.details() or "")
