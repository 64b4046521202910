"""An operator at a cell whose etcd knows its users: what the cell itself may not, whoever has the right file may, once."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lab.cell import Cell
from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.etcd import secret_file
from tests.testlib.node import Connected, Refused
from tests.testlib.secured_etcd import SECRET, add_operator, secured

WEB, API = "acme/shop/web", "acme/shop/api"
_running = ExitStack()


class CellOfAUser(Cell):
    """Its etcd, at the other end of its uplink, wants TLS and a password."""

    def make(self, overrides: Sequence[str] = ()) -> None:
        tls = self.root / "tls"
        tls.mkdir()
        secret_file(tls / "password", "SECRET\n")
        who = "ca: /tls/ca.crt, username: cell-1, password_file: /tls/password"
        super().make([*overrides, f"store={{etcd: {{endpoints: ['https://{OUTSIDE.ip}:2379'], {who}}}}}"])
        _running.enter_context(contextmanager(secured_outside)(self, tls))


def secured_outside(cell: Cell, folder: Path) -> Iterator[None]:
    for etcd in secured(folder, ask=False, netns=cell.outside, address=OUTSIDE.ip):
        add_operator(etcd)
        yield


@pytest.fixture(scope="module")
def cell_kind() -> Iterator[type[Cell]]:
    with _running:
        yield CellOfAUser


def test_only_an_operators_file_changes_policies_and_nothing_of_it_is_left_on_the_cell(
    cell: CellUnderTest, tmp_path: Path
) -> None:
    web, api = cell.containers(WEB, API)
    allow, who = ("policy", "allow", WEB, API, "tcp/8080", "--name", "p"), tmp_path / "operator.yaml"
    assert "etcd does not let 'cell-1' do this" in cell.cellnet(*allow, code=1).err
    who.write_text(f"username: operator\npassword: {SECRET}\n")
    credentials = ("--store-credentials", str(who))
    assert "others than root may read" in cell.cellnet(*allow, *credentials, code=2).err
    who.chmod(0o600)
    assert web.connect(api, 8080) is Refused
    cell.cellnet(*allow, *credentials)
    assert web.connect(api, 8080) is Connected
    assert "etcd does not let 'cell-1' do this" in cell.cellnet("policy", "delete", "p", code=1).err
    cell.cellnet("ca", "publish", *credentials)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(f"username: nobody\npassword: {SECRET}\n")
    wrong.chmod(0o600)
    refused = cell.cellnet("policy", "delete", "p", "--store-credentials", str(wrong), code=1)
    assert "etcd refuses 'nobody'" in refused.err
    cell.cellnet("policy", "delete", "p", *credentials)
    assert web.connect(api, 8080) is Refused
    kept = [each for folder in ("var", "etc") for each in (cell.lab.root / folder).rglob("*") if each.is_file()]
    assert len(kept) > 5
    assert not [each for each in kept if SECRET.encode() in each.read_bytes()]
    assert SECRET not in cell.log + refused.err + refused.out
