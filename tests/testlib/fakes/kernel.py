"""The loop's edges without a kernel: one that refuses what a test chooses, a monitor without events, an idle Envoy."""

from collections.abc import Mapping
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from agent.loop.desired import CellFacts
from agent.loop.snapshot import Snapshot
from agent.policy.rights.outside import OutsideResolver
from dataplane.apply import Outcome
from dataplane.dns.hosts_files import Names
from dataplane.flows.cut import Receipt
from dataplane.tables import Tables
from host.errors import HostRefused

API = IPv4Address("10.255.1.3")
FACTS = CellFacts(
    overlay=IPv4Network("10.255.0.0/16"), subnet=IPv4Network("10.255.1.0/24"), pins=Path("/pins"),
    tls_port=61443, egress_allowed=False, host_services=(), trust_domain="cell.internal", longest_tunnel=3600,
)  # fmt: skip


class EmptyFolder:
    """Of names, and for none."""

    def read(self) -> Names:
        return {}

    def strange(self) -> tuple[str, ...]:
        return ()


NO_NAMES = EmptyFolder()


def done(value: object) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(value)
    return future


class FakeKernel:
    """Has nothing, and refuses the containers in `failures`."""

    def __init__(self) -> None:
        self.failures: Mapping[IPv4Address, HostRefused] = {API: HostRefused("no room")}
        self.applied = 0

    def read(self, _desired: Tables, **_options: object) -> "Future[Tables]":
        return done(Tables())

    def apply(self, *_plan: object) -> "Future[Outcome]":
        self.applied += 1
        return done(Outcome(dict(self.failures)))

    def sweep(self, *_arguments: object, **_options: object) -> "Future[Receipt]":
        return done(Receipt((), 0, 0, 0.0, 0.0))


class SilentEdge:
    """A monitor without events, and an Envoy that is never asked."""

    def drain(self) -> bool:
        return False

    def publish(self, _resources: object) -> None:
        pass

    def retry(self) -> None:
        pass


async def empty_snapshot() -> Snapshot:
    return Snapshot(
        attachments=(), tags={}, leaves={}, resolve=lambda _: frozenset(), outside=OutsideResolver().rights, never_outside=(),
        trust_bundle=b"",
    )  # fmt: skip
