"""Leaves of a cell in a folder of the test, by a clock that the test sets."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from agent.config.config import Dns
from agent.identity.keyring import Keyring
from agent.identity.leaves import LeafFacts, Leaves
from agent.identity.names import NamesHeld, Naming
from agent.model.names import Space
from agent.model.routes import Route, Routes
from ca.disk import load_or_create
from ca.pem import certificates
from tests.testlib.beside import beside
from tests.testlib.disks import small_disk
from tests.testlib.patience import eventually_async
from tests.testlib.samples import NAMING, NO_NAMES, app

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FACTS = LeafFacts(trust_domain="cell.internal", naming=NAMING, lifetime=DAY)


class LeafScene:
    """A cell with its own root, all of it below a folder in memory; `changes` counts what `Leaves` has announced.

    `held` is what the store says whose names are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, NOON
        self.changes = 0
        self.held = NO_NAMES

    def leaves(self, *, needed: bool = False) -> Leaves:
        """As a start of the agent makes them, of a cell that has containers if it is `needed`."""
        facts = replace(FACTS, naming=Naming(Dns(), lambda: self.held))
        return Leaves(
            lambda: load_or_create(self.folder / "ca", cell="cell-1", trust_domain="cell.internal", now=self.now),
            keyring=Keyring(self.folder / "identity"), facts=facts, now=lambda: self.now, folder=self.folder / "ca",
            needed=needed,
        )  # fmt: skip

    async def run_until(self, leaves: Leaves, true: Callable[[], bool]) -> None:
        """Renew in the background until something is so."""

        def changed() -> None:
            self.changes += 1

        async with beside(leaves.run(changed)):
            await eventually_async(true)


def names_in(leaves: Leaves, name: str = "web") -> list[str]:
    """The DNS names of one's certificate."""
    certificate = certificates(leaves.all()[name].chain, where="leaf")[0]
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return alternative.get_values_for_type(x509.DNSName)


def routes_of_shop(*hosts: str, mapped_to: str | None = None) -> NamesHeld:
    """Routes of acme/shop: claimed, or mapped to one of its apps."""
    apps = frozenset() if mapped_to is None else frozenset({app(mapped_to)})
    return NamesHeld(Routes({host: Route(host, Space("acme", "shop"), apps, mapped_to is not None) for host in hosts}), {})


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[LeafScene]:
    with small_disk(tmp_path / "scene", "size=1m,mode=0755") as place:
        yield LeafScene(place)
