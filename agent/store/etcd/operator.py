"""The rights that come with an operator's request: what the request changes is committed with them, by a client of its own.

The cell reads as always, with its own rights. The client ends with the request, and the credentials with the client.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import grpc

from agent.config.etcd import EtcdEndpoint
from agent.errors import InvalidInput
from agent.model.credentials import StoreCredentials
from agent.store.etcd.client import EtcdClient
from agent.store.etcd.connection import EtcdAccess


@dataclass(frozen=True, slots=True)
class OperatorAccess(EtcdAccess):
    """Credentials from a request in place of those in files."""

    credentials: StoreCredentials

    def channel(self, endpoint: EtcdEndpoint) -> grpc.aio.Channel:
        """See EtcdAccess."""
        return self.secured(endpoint, cert=_bytes(self.credentials.cert), key=_bytes(self.credentials.key))

    def password(self) -> str:
        """See EtcdAccess."""
        return self.credentials.password or ""


@contextlib.asynccontextmanager
async def client_of(writer: StoreCredentials | None, *, cell: EtcdClient) -> AsyncIterator[EtcdClient]:
    """The client that commits with the writer's rights: that of the cell for None, else one that is closed at the end.

    Raises InvalidInput where an endpoint has no TLS: a password would be readable on the network.
    """
    if writer is None:
        yield cell
        return
    if not all(endpoint.tls for endpoint in cell.etcd.endpoints):
        raise InvalidInput("etcd is reached without TLS, so no credentials are sent there", hint="write https:// in store.etcd")
    etcd = replace(cell.etcd, username=writer.username, password_file=None, cert=None, key=None)
    client = EtcdClient(etcd, access=OperatorAccess(etcd, writer))
    try:
        yield client
    finally:
        await client.close()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
