"""A ledger of its own for each test."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.store.database import Database
from agent.store.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    database = Database(tmp_path / "state/cellnet.db")
    made = Ledger(database)
    made.adopt_subnet(IPv4Network("10.255.1.0/24"))
    yield made
    database.close()
