"""How etcd is reached: addresses, TLS, and who we are there."""

import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from agent.config.etcd import Etcd, EtcdEndpoint
from agent.errors import HostRefused

# An endpoint that has vanished without a word must be noticed before a lease of 15 s runs out.
OPTIONS = (
    ("grpc.keepalive_time_ms", 8_000),  # etcd ends connections that are asked twice within 5 s, and clocks are not exact
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # what connecting may take; how soon it is tried again is the line above
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),  # a client that is closed must not leave its connection to the next
)


@dataclass(frozen=True, slots=True)
class Access:
    """Makes channels. Files are read for each new one."""

    etcd: Etcd

    def stamp(self) -> object:
        """Changes whenever one of the files does: then it is time for a new channel."""
        return tuple(_stamp(path) for path in (self.etcd.ca, self.etcd.cert, self.etcd.key) if path is not None)

    def channel(self, endpoint: EtcdEndpoint) -> grpc.aio.Channel:
        """A new channel, which connects with its first call. Raises HostRefused where a file cannot be read."""
        if not endpoint.tls:
            return grpc.aio.insecure_channel(_target(endpoint), options=OPTIONS)
        return self.secured(endpoint, cert=_content(self.etcd.cert), key=_content(self.etcd.key))

    def secured(self, endpoint: EtcdEndpoint, *, cert: bytes | None, key: bytes | None) -> grpc.aio.Channel:
        """A channel with TLS, showing this certificate."""
        credentials = grpc.ssl_channel_credentials(_content(self.etcd.ca), key, cert)
        return grpc.aio.secure_channel(_target(endpoint), credentials, options=OPTIONS)

    def password(self) -> str:
        """The configured user's. Raises HostRefused."""
        return (_content(self.etcd.password_file) or b"").decode(errors="replace").strip("\n")


def _target(endpoint: EtcdEndpoint) -> str:
    return f"{endpoint.host}:{endpoint.port}"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostRefused(
            f"{path}: {os.strerror(error.errno or 0)}",
            hint="store.etcd in agent.yaml names the files; the agent must read them",
        ) from error
