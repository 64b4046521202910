"""Containers that open more new flows than one may (`filter.py`), by what the kernel keeps of each source: its credit."""

from ipaddress import IPv4Address
from pathlib import Path

from dataplane.tables import LIMITED_CALLS, LIMITED_DATAGRAMS

FOLDER = Path("/proc/thread-self/net/ipt_hashlimit")
LEAST = 10  # so many times less than the most is none


def over_limit() -> frozenset[IPv4Address]:
    """Those whose further flows are refused now, in the namespace of the calling thread."""
    return frozenset(address for name in (LIMITED_DATAGRAMS, LIMITED_CALLS) for address in _without_credit(FOLDER / name))


def _without_credit(path: Path) -> list[IPv4Address]:
    """Of lines `SECONDS SOURCE:PORT->DESTINATION:PORT CREDIT MOST COST`."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except FileNotFoundError:  # no such rule yet
        return []
    return [IPv4Address(flow.split(":")[0]) for _, flow, credit, most, _ in lines if int(credit) * LEAST < int(most)]
