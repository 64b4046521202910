"""What etcd's errors mean for whoever must act on them."""

import grpc

from agent.config.etcd import Etcd
from agent.errors import HostRefused, Unavailable


class Compacted(Exception):
    """The changes after the asked revision are no longer kept."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"etcd keeps no changes from before revision {revision}")
        self.revision = revision


class NoSuchLease(Exception):
    """The lease has run out or was revoked."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"etcd has no lease {lease:x}")


def refused(error: BaseException, etcd: Etcd) -> Exception:
    """The error to raise for one of gRPC's."""
    where = ", ".join(map(str, etcd.endpoints))
    if not isinstance(error, grpc.RpcError):
        return Unavailable(f"etcd ({where}) went silent", hint="it is tried again by itself")
    code, words = error.code(), error.details() or ""
    if "lease not found" in words:
        return NoSuchLease(0)
    if "compacted" in words:
        return Compacted(0)
    if code is grpc.StatusCode.PERMISSION_DENIED:
        who = etcd.username or etcd.cert
        return HostRefused(f"etcd does not let '{who}' do this: {words}", hint="docs/store.md lists what each role needs")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
        return HostRefused(f"etcd refuses '{etcd.username}': {words}", hint="look at store.etcd in agent.yaml")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return HostRefused(f"etcd refuses to write: {words}", hint="compact and defragment it, then `etcdctl alarm disarm`")
    return Unavailable(f"etcd ({where}) does not answer: {words or code.name}", hint="it is tried again by itself")
