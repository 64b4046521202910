"""One flow as users see it: which app reaches which, and by what right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

CLOSED: Final = "closed"  # a state: the kernel forgets it before long


class Call(Protocol):
    """What is asked about: ends are apps, or addresses that are no app's."""

    @property
    def source(self) -> str:
        """The end that begins."""

    @property
    def to(self) -> str:
        """The other one."""

    @property
    def protocol(self) -> str:
        """As `tcp`."""

    @property
    def port(self) -> int:
        """The destination's, 0 where there is none."""


@dataclass(frozen=True, slots=True)
class LiveFlow:
    """`sent` and `received` are octets, by the end that has begun it, None where the kernel does not count; `seconds` since
    then, None where it is not known. `policy` and `origin` are those of what allows it, "" where nothing is found that does.

    `tunnel`: it goes through a tunnel of mutual TLS. `audit`: a policy in audit alone lets it through. `tried`: it is a call
    of `explain --try`; in a tunnel, where the kernel has Envoy's port for the caller's, that is not known.
    """

    id: str
    source: str
    to: str
    source_address: str
    source_port: int
    to_address: str
    protocol: str
    port: int
    state: str
    policy: str
    origin: str
    sent: int | None = None
    received: int | None = None
    seconds: int | None = None
    tunnel: bool = False
    audit: bool = False
    tried: bool = False

    def view(self, *, cell: str) -> Mapping[str, object]:
        """As the API has it."""
        return {
            "id": self.id,
            "from": self.source,
            "to": self.to,
            "from_address": self.source_address,
            "from_port": self.source_port,
            "to_address": self.to_address,
            "protocol": self.protocol,
            "port": self.port,
            "state": self.state,
            "policy": self.policy,
            "origin": self.origin,
            "sent": self.sent,
            "received": self.received,
            "seconds": self.seconds,
            "tunnel": self.tunnel,
            "audit": self.audit,
            "tried": self.tried,
            "cell": cell,
        }
