"""What etcd's errors mean, and what an operator can do about each."""

import asyncio

import grpc

from agent.config.etcd import Etcd
from agent.errors import HostRefused, Unavailable
from host.errors import Unexpected

AGAIN = "it is tried again by itself"
REACHED = f"see that etcd runs, and that store.etcd.endpoints and the network lead to it; {AGAIN}"
OPERATORS = "policies, routes and roots are the operator's (--store-credentials FILE); docs/store.md lists what each role needs"
# what gRPC reports of a mistake in the settings -> what to do; gRPC cannot distinguish it from an outage
MISTAKES = {
    "CERTIFICATE_VERIFY_FAILED": "store.etcd.ca must be the CA that issued etcd's certificate, and the clocks must agree",
    "Hostname Verification": "etcd's certificate must name the address that store.etcd.endpoints has",
    "security handshaker": "store.etcd.ca, cert and key must be PEM, and the key that of the certificate",
    "Unwrap failed": "etcd may want a certificate of this cell: store.etcd.cert and key name it",
    "Socket closed": f"{AGAIN}; an etcd with TLS is reached by https:// in store.etcd.endpoints",
}


class Compacted(Exception):
    """etcd no longer keeps the changes after the asked revision."""


class NoSuchLease(Exception):
    """The lease has run out or was revoked."""


def refused(error: Exception, etcd: Etcd) -> Exception:
    """The error to raise for one of gRPC's."""
    where = ", ".join(map(str, etcd.endpoints))
    if not isinstance(error, grpc.RpcError | asyncio.InvalidStateError | TimeoutError):
        return Unexpected(error)
    if not isinstance(error, grpc.RpcError):
        return Unavailable(f"etcd ({where}) went silent", hint=AGAIN)
    code, words = error.code(), error.details() or ""
    if "lease not found" in words:
        return NoSuchLease()
    if "compacted" in words:
        return Compacted()
    if code is grpc.StatusCode.PERMISSION_DENIED:
        user = etcd.username or etcd.cert
        return HostRefused(f"etcd does not let '{user}' do this: {words}", hint=OPERATORS)
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
        return HostRefused(f"etcd refuses '{etcd.username}': {words}", hint="look at store.etcd in agent.yaml")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return HostRefused(f"etcd refuses to write: {words}", hint="compact and defragment it, then `etcdctl alarm disarm`")
    hint = next((each for sign, each in MISTAKES.items() if sign in words), REACHED)
    return Unavailable(f"etcd ({where}) does not answer: {words or code.name}", hint=hint)
