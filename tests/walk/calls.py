"""What is called, and what comes of it."""

from dataclasses import dataclass
from enum import Enum

from tests.testlib.oracle import TLS

TCP, UDP = (8080, 9000), (5353,)
SERVICES = (*(("tcp", port) for port in (*TCP, TLS)), *(("udp", port) for port in UDP))
"""All that is called, in strict mode TUNNELS besides. 61443 and that are Envoy's; on the others each Place serves."""


class Outcome(Enum):
    """What comes of a call."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    SILENT = "silent"
    OTHER = "something else"


@dataclass(frozen=True, order=True)
class Call:
    """One connection, or one datagram and its answer, from one container to another, by their names.

    An end that is outside is an address there, or the name of a host.
    """

    source: str
    to: str
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.to} {self.protocol}/{self.port}"

    @property
    def is_to_app(self) -> bool:
        """Over TCP: in strict mode it is carried in a tunnel, if both ends are containers."""
        return self.port in TCP
