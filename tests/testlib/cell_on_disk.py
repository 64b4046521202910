"""What an agent leaves on the disk of its cell, made without one, and `cellnet` in a network namespace of its own."""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.cli.main import run
from agent.model.owner import ProcessOwner
from agent.policy.directory.lastgood import GoodVersion, LastGood
from agent.store.database import Database
from agent.store.ledger import Ledger
from agent.store.sqlite import SqliteStore
from ca.disk import load_or_create
from host.namespace import run_in
from host.process import boot_id, own_start_time
from tests.testlib.netns import Netns
from tests.testlib.samples import app, request

CONFIG = "cell: cell-1\negress: {default: allow}\n"
SHOP = "policies:\n  - {from: acme/shop/web, to: acme/shop/api, tcp: [8080]}\n"


class CellOnDisk:
    """The cell below `root`; whatever takes the agent's lock does so in `host`."""

    def __init__(self, root: Path, host: Netns, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.host, self._capsys = root, host, capsys

    @property
    def config(self) -> Path:
        return self.root / "etc/cellnet/agent.yaml"

    @property
    def policies(self) -> Path:
        return self.root / "etc/cellnet/policies.d"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/cellnet"

    @property
    def database(self) -> Path:
        return self.state / "cellnet.db"

    @property
    def ca(self) -> Path:
        return self.state / "ca"

    @property
    def last_good(self) -> LastGood:
        return LastGood(self.state / "policies")

    def make(self, *, identity: str = "one", text: str = CONFIG) -> None:
        """Configuration, a policy file that has a mistake and its last good version, a certificate authority, a database."""
        self.policies.mkdir(parents=True)
        self.config.write_text(text)
        (self.policies / "shop.yaml").write_text(SHOP)
        (self.policies / "bad.yaml").write_text("policies: [")
        self.last_good.write("bad.yaml", GoodVersion(b"policies: []\n", 1_700_000_000 * 10**9))
        load_or_create(self.ca, cell="cell-1", trust_domain="cell.internal", now=datetime.now(UTC))
        self.use_tags("web", "api")
        with self.ledger() as ledger:
            ledger.cell_id(fresh=identity)
            ledger.adopt_subnet(IPv4Network("10.255.1.0/24"))

    def ledger(self) -> "OpenLedger":
        """Its ledger, for a `with`."""
        return OpenLedger(self.database)

    def use_tags(self, *apps: str) -> None:
        """Have the apps in use, which gives them tags."""
        database = Database(self.database)
        store = SqliteStore(database)
        asyncio.run(store.claim_tags([app(each) for each in apps], now=1.0))
        database.close()

    def tags(self) -> dict[str, int]:
        """The number of each app."""
        database = Database(self.database)
        found = {row["app"]: row["tag"] for row in database.read("SELECT app, tag FROM tags")}
        database.close()
        return found

    def attach(self, name: str) -> None:
        """An attachment of this process, as its agent would have written it."""
        with self.ledger() as ledger:
            ledger.begin(request(name), owner=ProcessOwner(os.getpid(), own_start_time(), boot_id()))
            ledger.complete(name)

    def files(self) -> Mapping[str, bytes]:
        """All that decides, by path, without temporary names; the database by what is in it."""
        folders = (self.config.parent, self.ca, self.state / "policies")
        found = {str(each.relative_to(self.root)): each.read_bytes() for folder in folders for each in sorted(folder.rglob("*"))
                 if each.is_file() and not each.name.startswith(".")}  # fmt: skip
        return {**found, "tags": json.dumps(self.tags(), sort_keys=True).encode()}

    def copy(self, name: str) -> "CellOnDisk":
        """The same cell in a folder beside."""
        made = CellOnDisk(self.root.with_name(name), self.host, self._capsys)
        shutil.copytree(self.root, made.root)
        return made

    def cellnet(self, *words: str, code: int = 0) -> str:
        """What it prints, on either stream."""
        found = run_in(self.host.path, lambda: run(["--root", str(self.root), *words]))
        printed = self._capsys.readouterr()
        assert found == code, printed.out + printed.err
        return printed.out + printed.err


class OpenLedger:
    """A ledger that is closed at the end of the block."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def __enter__(self) -> Ledger:
        return Ledger(self._database)

    def __exit__(self, *_: object) -> None:
        self._database.close()
