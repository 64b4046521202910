"""How etcd is reached: channels with TLS and this cell's credentials, and streams that may fall silent without an end."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from agent.config.etcd import Etcd, EtcdEndpoint
from agent.errors import HostRefused, Unavailable
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.errors import Compacted
from host.trust import require_trusted

# A dead endpoint that closes no connection must be noticed before a lease of 15 s runs out.
OPTIONS = (
    ("grpc.keepalive_time_ms", 8_000),  # etcd ends connections that are asked twice within 5 s, and clocks are not exact
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # what connecting may take; how soon it is tried again is the line above
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),  # a client that is closed must not leave its connection to the next
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment would get credentials: https_proxy, http_proxy, grpc_proxy
    ("grpc.address_http_proxy_enabled_addresses", ""),  # nor the one of GRPC_ADDRESS_HTTP_PROXY
)


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """Makes channels. The files are read for each new one."""

    etcd: Etcd

    def stamp(self) -> object:
        """Differs from an earlier answer when one of the files has changed: then a new channel is needed."""
        return tuple(_file_stamp(path) for path in (self.etcd.ca, self.etcd.cert, self.etcd.key) if path is not None)

    def channel(self, endpoint: EtcdEndpoint) -> grpc.aio.Channel:
        """A new channel, which connects with its first call. Raises HostRefused where a file cannot be read."""
        if not endpoint.tls:
            return grpc.aio.insecure_channel(_target(endpoint), options=OPTIONS)
        return self.secured(endpoint, cert=_content(self.etcd.cert), key=_content(self.etcd.key, secret=True))

    def secured(self, endpoint: EtcdEndpoint, *, cert: bytes | None, key: bytes | None) -> grpc.aio.Channel:
        """A channel with TLS, showing this certificate."""
        credentials = grpc.ssl_channel_credentials(_content(self.etcd.ca), key, cert)
        return grpc.aio.secure_channel(_target(endpoint), credentials, options=OPTIONS)

    def password(self) -> str:
        """The configured user's. Raises HostRefused, also where others than root can read it."""
        return (_content(self.etcd.password_file, secret=True) or b"").decode(errors="replace").strip("\n")


async def answers(call: Any, *, silent: float) -> AsyncIterator[Any]:
    """What a watch's stream brings, until its end. After half of `silent` seconds without an answer, progress is asked for.

    Raises TimeoutError after all of them (a dead network closes no connection), grpc.RpcError when the connection breaks, and
    Compacted, Unavailable or HostRefused where etcd ends the watch.
    """
    while (answer := await _next_answer(call, silent=silent)) is not grpc.aio.EOF:
        if isinstance(answer, rpc.WatchResponse) and answer.canceled:
            raise _end_of_watch(answer)
        yield answer


async def _next_answer(call: Any, *, silent: float) -> Any:
    """Cancelling a read would end the stream: so the read is a task, and only the wait for it is cancelled."""
    reading = asyncio.get_running_loop().create_task(call.read())
    try:
        if not (await asyncio.wait({reading}, timeout=silent / 2))[0]:
            await call.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
            if not (await asyncio.wait({reading}, timeout=silent / 2))[0]:
                raise TimeoutError
        return await reading
    finally:
        reading.cancel()


def _end_of_watch(answer: rpc.WatchResponse) -> Compacted | HostRefused | Unavailable:
    if answer.compact_revision:
        return Compacted()
    if "permission" in answer.cancel_reason:
        hint = "the user of store.etcd needs to read all below the prefix"
        return HostRefused(f"etcd ended the watch: {answer.cancel_reason}", hint=hint)
    return Unavailable(f"etcd ended the watch: {answer.cancel_reason}", hint="it is tried again by itself")


def _target(endpoint: EtcdEndpoint) -> str:
    return f"{endpoint.host}:{endpoint.port}"


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _content(path: Path | None, *, secret: bool = False) -> bytes | None:
    if path is None:
        return None
    require_trusted(path, secret=secret)
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostRefused(
            f"{path}: {os.strerror(error.errno or 0)}",
            hint="store.etcd in agent.yaml names the files; the agent must read them",
        ) from error
