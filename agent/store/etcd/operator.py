"""An operator's request: what it writes, it writes with the rights that came with it, over a client of its own.

The cell reads as always, by its own rights. The client goes with the request, and the credentials with the client.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import grpc

from agent.config.etcd import Etcd, EtcdEndpoint
from agent.errors import InvalidInput
from agent.model.credentials import StoreCredentials
from agent.store.etcd.client import EtcdClient
from agent.store.etcd.connection import Access


@dataclass(frozen=True, slots=True)
class Presented(Access):
    """Credentials from a request in place of those in files."""

    credentials: StoreCredentials

    def channel(self, endpoint: EtcdEndpoint) -> grpc.aio.Channel:
        """See Access."""
        return self.secured(endpoint, cert=_bytes(self.credentials.cert), key=_bytes(self.credentials.key))

    def password(self) -> str:
        """See Access."""
        return self.credentials.password or ""


@contextlib.asynccontextmanager
async def acting_as(credentials: StoreCredentials, *, client: EtcdClient, etcd: Etcd) -> AsyncIterator[None]:
    """Until the end of this, what the caller's task commits through `client` is committed by whoever `credentials` are.

    Raises InvalidInput where an endpoint has no TLS: a password would be there for all to read.
    """
    if not all(endpoint.tls for endpoint in etcd.endpoints):
        raise InvalidInput("etcd is reached without TLS, so no credentials are sent there", hint="write https:// in store.etcd")
    operator = replace(etcd, username=credentials.username, password_file=None, cert=None, key=None)
    other = EtcdClient(operator, access=Presented(operator, credentials))
    try:
        with client.written_by(other):
            yield
    finally:
        await other.close()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
