"""Containers that open more flows, or connections to Envoy, or ask for more names, than one may (`filter.py`, `rights.py`,
`resolver.py`): by the credit that the kernel keeps of each source."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from dataplane.tables import (
    EXCESS_TLS,
    EXCESS_TUNNELS,
    LIMITED_CALLS,
    LIMITED_DATAGRAMS,
    LIMITED_ECHOES,
    LIMITED_LONG,
    LIMITED_QUESTIONS,
    LIMITED_RESOLVER_CALLS,
    LIMITED_TUNNELS,
)

FOLDER = Path("/proc/thread-self/net/ipt_hashlimit")
LEAST = 10  # so many times less than the most is none


@dataclass(frozen=True, slots=True)
class OverLimit:
    """Whose further flows, further tunnels and connections with TLS to containers of this cell, and questions are refused now.

    Flows are judged where they begin, the others where they end: their sources may be another cell's containers.
    """

    flows: frozenset[IPv4Address] = frozenset()
    tunnels: frozenset[IPv4Address] = frozenset()
    tls: frozenset[IPv4Address] = frozenset()
    questions: frozenset[IPv4Address] = frozenset()


def over_limit() -> OverLimit:
    """Those in the namespace of the calling thread."""
    return OverLimit(
        flows=_without_credit(LIMITED_DATAGRAMS, LIMITED_ECHOES, LIMITED_CALLS),
        tunnels=_without_credit(LIMITED_TUNNELS, EXCESS_TUNNELS),
        tls=_without_credit(EXCESS_TLS),
        questions=_without_credit(LIMITED_QUESTIONS, LIMITED_LONG, LIMITED_RESOLVER_CALLS),
    )


def _without_credit(*names: str) -> frozenset[IPv4Address]:
    """Of lines `SECONDS SOURCE:PORT->DESTINATION:PORT CREDIT MOST COST`."""
    lines = [line.split() for name in names for line in _lines(FOLDER / name)]
    return frozenset(IPv4Address(flow.split(":")[0]) for _, flow, credit, most, _ in lines if int(credit) * LEAST < int(most))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:  # no such rule yet
        return []
