"""The key and the value of Envoy's table: a named xDS resource, serialized, with the hash of its content as version.

Content hashes mean that a restarted agent arrives at the versions that Envoy already has, and pushes nothing.
"""

import hashlib
from dataclasses import dataclass, field

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 -- a type, not a password
EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"


@dataclass(frozen=True, slots=True, order=True)
class ResourceKey:
    """Envoy knows a resource by its type and name; both are ours, so all names in a type are known to be ours too."""

    type_url: str
    name: str

    def __str__(self) -> str:
        return f"{self.type_url.rpartition('.')[2].lower()} {self.name}"


@dataclass(frozen=True, slots=True)
class Resource:
    """One serialized message. `version` is 16 hex digits of its SHA-256, and all that is ever printed: it may be a key."""

    version: str
    body: bytes = field(repr=False)


def serialized(message: Message) -> Resource:
    """The message as a table's value. Deterministic: equal messages give equal versions, in every process."""
    body = message.SerializeToString(deterministic=True)
    return Resource(hashlib.sha256(body).hexdigest()[:16], body)


def packed(message: Message) -> AnyMessage:
    """The message as the `typed_config` of another."""
    wrapped = AnyMessage()
    wrapped.Pack(message, deterministic=True)
    return wrapped
