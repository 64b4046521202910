"""A cell alone replaces its root by one command, while TLS is served: nothing fails, and nothing is left of the old root."""

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ca.disk import init_root
from ca.issuing import issue
from ca.pem import certificates, fingerprint
from lab.cell import Cell
from tests.testlib.cell import CellUnderTest
from tests.testlib.certificates import TRUST_DOMAIN
from tests.testlib.documents import blocks, commands
from tests.testlib.instance import Instance
from tests.testlib.patience import eventually
from tests.testlib.stores.etcd import secret_file
from tests.testlib.tls_load import mutual_tls_call, tls_call, tls_load

WEB, API = "acme/shop/web", "acme/shop/api"
POLICY = f"policies:\n- {{from: {WEB}, to: {API}, tcp: 61443}}\n"
WORDS = "correct horse"


def folder(cell: CellUnderTest) -> Path:
    return cell.lab.root / "var/lib/cellnet/ca"


def two(cell: CellUnderTest) -> tuple[Instance, Instance]:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True)
    cell.policy_file("shop.yaml", POLICY)
    return web, api


def root(cell: CellUnderTest) -> str:
    """The fingerprint of the one root that is trusted."""
    (found,) = certificates(cell.cellnet("ca", "show", "--pem").out.encode(), where="the bundle")
    return fingerprint(found)


def test_one_command_replaces_the_root_under_load_and_goes_on_after_a_crash(cell: CellUnderTest) -> None:
    web, api = two(cell)
    before, key = root(cell), (folder(cell) / "root.key").read_bytes()
    with tls_load([web], [api], (tls_call, mutual_tls_call)) as load:
        live = web.dial_tls(api)
        (command,) = commands(*blocks("docs/cells.md", test="tests/cell/tls/test_root_rotation.py"))
        told = cell.cellnet(*command.split()[1:]).out
        after = root(cell)
        assert [line.split(":")[0] for line in told.splitlines() if line.startswith("step")] == [
            "step 1 of 3", "step 2 of 3", "step 3 of 3"
        ]  # fmt: skip
        assert f"done: all cells sign with sha256 {after[:16]}" in told
        assert after != before
        assert (folder(cell) / "root.key").read_bytes() != key
        cell.cellnet("ca", "rotate", "--until", "trust")
        cell.kill("agent")
        cell.start()
        eventually(lambda: "step 2 of 3" in cell.cellnet("ca", "rotate", "--status", code=1).out)  # once Envoy has said so
        cell.cellnet("ca", "rotate")
        last = root(cell)
        assert last not in (before, after)
        live.sendall(b"echo")
        assert live.recv(4) == b"echo"
        done = load.calls
        eventually(lambda: load.calls > done + 10)
    assert load.failures == []
    assert load.leaves(api) == 3, "one of each root"
    assert sorted(path.name for path in folder(cell).iterdir()) == ["cell.crt", "cell.key", "root.crt", "root.key"]
    assert "renewed by this agent" in cell.cellnet("ca", "show").out
    told = cell.cellnet("ca", "rotate", "--status").out
    assert told.splitlines() == [
        "no rotation of the root is under way",
        f"  cell-1 signs with sha256 {last[:16]}…, trusts sha256 {last[:16]}…",
    ]


class GuardedCell(Cell):
    """Its root's key is in its own folder, under a passphrase."""

    def make(self, overrides: Sequence[str] = ()) -> None:
        super().make(overrides)
        there, now, words = self.root / "var/lib/cellnet/ca", datetime.now(UTC), WORDS.encode()
        init_root(there, trust_domain=TRUST_DOMAIN, now=now, passphrase=words)
        issue(there, cell="cell-1", out=self.root / "issued", now=now, lifetime=timedelta(days=30), passphrase=words)
        for name in ("cell.crt", "cell.key"):
            shutil.move(self.root / "issued" / name, there / name)


def test_a_root_under_a_passphrase_is_replaced_by_another_and_the_agent_never_has_it(
    make_cell: Callable[..., CellUnderTest], tmp_path: Path
) -> None:
    cell = make_cell(kind=GuardedCell)
    web, api = two(cell)
    before = root(cell)
    assert "there is no terminal to ask for the passphrase" in cell.cellnet("ca", "rotate", code=1).err
    words = ("--passphrase-file", str(secret_file(tmp_path / "words", f"{WORDS}\n")))
    wrong = ("--passphrase-file", str(secret_file(tmp_path / "wrong", "wrong\n")))
    assert "the passphrase does not open" in cell.cellnet("ca", "rotate", *wrong, code=1).err
    assert root(cell) == before
    cell.cellnet("ca", "rotate", *words)
    assert root(cell) != before
    assert b"ENCRYPTED" in (folder(cell) / "root.key").read_bytes()
    assert web.get_tls(api) == f"hello {web.address}\n"
    assert "renewed by the root's owner" in cell.cellnet("ca", "show").out
    assert WORDS not in cell.log
