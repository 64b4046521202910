"""Attaching on a real ledger and CA, without a kernel."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.attach.address_holders import AddressHolders
from agent.attach.asked_routes import AskedRoutes
from agent.attach.owners import Owners
from agent.attach.published_ports import PublishedPorts
from agent.attach.reserved_ports import ReservedPorts
from agent.attach.transaction import AttachParts, AttachTransactions
from agent.daemon.clock import Clock
from agent.identity.keyring import Keyring
from agent.identity.leaves import LeafFacts, Leaves
from agent.loop.reports import TurnReport
from agent.model.names import AppName
from agent.store.last_leaves import ClockBounds
from agent.store.ledger import Ledger
from ca.disk import load_or_create
from tests.testlib.beds.environment import container_files
from tests.testlib.fakes.kernel import FACTS as CELL
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.samples import NAMING

FACTS = LeafFacts(trust_domain="cell.internal", naming=NAMING, lifetime=timedelta(hours=24))


class Obliging:
    """A loop whose turns all go well, once `gate` is open, and an Envoy that has all it should."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.turns = 0
        self.envoy = self

    async def settle(self) -> TurnReport:
        self.turns += 1
        await self.gate.wait()
        return TurnReport()

    async def acknowledged(self, *_words: object, **_options: object) -> None:
        return


async def no_claim(_app: AppName) -> None:
    return


def holders(ledger: Ledger, *, clock: Clock | None = None, proving: bool = False) -> AddressHolders:
    """Of the ledger's addresses, by a clock that may be set."""
    known = clock or Clock()
    earliest, latest = known.bounds()
    return AddressHolders(ledger, proving=lambda: proving, now=known.now, bounds=lambda: ClockBounds(earliest(), latest()))


def attaching(tmp_path: Path, ledger: Ledger, loop: Obliging) -> AttachTransactions:
    leaves = Leaves(
        lambda: load_or_create(tmp_path / "ca", cell="c", trust_domain="cell.internal", now=datetime.now(UTC)),
        keyring=Keyring(tmp_path / "keys"), facts=FACTS, now=lambda: datetime.now(UTC),
    )  # fmt: skip
    (tmp_path / "pins").mkdir()
    store = MemoryStore()
    any_loop: Any = loop
    return AttachTransactions(
        AttachParts(ledger=ledger, leaves=leaves, owners=Owners(), reconciler=any_loop, claim=no_claim,
                    holders=holders(ledger), files=container_files(tmp_path, ledger),
                    facts=replace(CELL, pins=tmp_path / "pins"), leaving=set(), indexes=store,
                    routes=AskedRoutes(store, NAMING, may_claim=True),
                    ports=ReservedPorts(lambda _: (), uid=0),
                    published=PublishedPorts(ledger.all, facts=CELL, reserved={}))
    )  # fmt: skip
