"""This cell, as it reports itself: its part of the overlay, and the agent's process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from ipaddress import IPv4Network

from agent.attach.transaction import AttachTransactions
from agent.cells.underlay import UnderlayMonitor
from agent.daemon.clock import Clock
from agent.loop.desired import CellFacts
from agent.model.status import Part


@dataclass(frozen=True, slots=True)
class ThisCellRow:
    """`mtu` is the containers' in bytes, `started` the agent's start (UTC)."""

    name: str
    overlay: IPv4Network
    subnet: IPv4Network
    mtu: int
    attachments: int
    version: str
    pid: int
    started: datetime


class ThisCell(Part):
    """`mtu` is asked at each look."""

    def __init__(
        self, name: str, *, facts: CellFacts, underlay: UnderlayMonitor, attaching: AttachTransactions, clock: Clock
    ) -> None:
        self._name = name
        self._facts = facts
        self._underlay = underlay
        self._attaching = attaching
        self._clock = clock
        self._started = clock.elapsed()
        self._version = version("cellnet")  # of what runs: an upgrade replaces the files before the process

    async def rows(self) -> Mapping[str, object]:
        """`cell`."""
        return {
            "cell": ThisCellRow(
                name=self._name,
                overlay=self._facts.overlay,
                subnet=self._facts.subnet,
                mtu=self._underlay.facts.mtu,
                attachments=len(self._attaching.attached()),
                version=self._version,
                pid=os.getpid(),
                started=self._clock.called(self._started),
            )
        }
