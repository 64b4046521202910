"""An operator at a cell whose etcd knows its users: what the cell itself may not, an operator with the right file may, once."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from ca.pem import certificates
from lab.cell import Cell
from lab.children import environment
from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, run_in_shell, steps
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.stores.etcd import Etcd, secret_file
from tests.testlib.stores.secured_etcd import ROOT_USER, SECRET, add_operator, secured

WEB, API = "acme/shop/web", "acme/shop/api"
_running = ExitStack()
_etcds: dict[Path, Etcd] = {}  # by the root of the cell


class CellOfAUser(Cell):
    """Its etcd, at the other end of its uplink, wants TLS and a password."""

    def make(self, overrides: Sequence[str] = ()) -> None:
        tls = self.root / "tls"
        tls.mkdir()
        secret_file(tls / "password", "SECRET\n")
        who = "ca: /tls/ca.crt, username: cell-1, password_file: /tls/password"
        super().make([*overrides, f"store={{etcd: {{endpoints: ['https://{OUTSIDE.ip}:2379'], {who}}}}}"])
        _etcds[self.root] = etcd = _running.enter_context(
            contextmanager(secured)(tls, ask=False, netns=self.outside, address=OUTSIDE.ip)
        )
        add_operator(etcd)


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


SHOP = f"policies:\n- {{name: tls, from: {WEB}, to: {API}, tcp: [8080, 61443]}}\n"
COMMON = """\
$ cellnet ca init --ca authority
$ cellnet ca issue-cell --ca authority --cell cell-1 --out cell-1
$ cp authority/root.crt root.crt
"""


class Reader:
    """Follows docs/cells.md in a folder of an operator, with root's files of this cell."""

    def __init__(self, cell: CellUnderTest, folder: Path) -> None:
        self._cell, self._folder = cell, folder
        secret_file(folder / "operator.yaml", "username: operator\npassword_file: operator.password\n")
        secret_file(folder / "operator.password", SECRET)
        (folder / "shop.yaml").write_text(SHOP)

    def run(self, block: str) -> str:
        """What the commands print."""
        lab = self._cell.lab
        instead = {"/var/lib/cellnet": f"{lab.root}/var/lib/cellnet", "/root/former-ca": f"{self._folder}/former-ca"}
        return run_in_shell(block, folder=self._folder, instead=instead, env=environment(lab.root))


def issuer(instance: Instance) -> bytes:
    """Of an instance's certificate."""
    return certificates(Path(instance.environment["CF_INSTANCE_CERT"]).read_bytes(), where="leaf")[1].fingerprint(SHA256())


def bundle(instance: Instance) -> bytes:
    return Path(instance.environment["CF_INSTANCE_CA"]).read_bytes()


def test_the_documents_commands_bring_a_running_cell_under_the_common_root_without_a_refused_call(
    cell: CellUnderTest, tmp_path: Path
) -> None:
    listing, policies, both, common, begin, end, removal = blocks("docs/cells.md", test="tests/cell/operation/test_operator.py")
    copying = blocks("docs/cells.md", test="tests/cli/test_ca.py")[1]
    web, api = cell.containers(WEB, API)
    reader = Reader(cell, tmp_path)
    heads = steps(listing)[0][1].splitlines()[0].split()
    assert reader.run(listing).splitlines()[0].split() == heads
    shown = steps(policies)[0][1]
    assert reader.run(policies) == f"{shown}applied tls\n"
    assert web.get_tls(api) == f"hello {web.address}\n"
    former = issuer(api)
    reader.run(COMMON)
    reader.run(both)
    assert web.get_tls(api) == f"hello {web.address}\n"
    reader.run(copying)
    eventually(lambda: web.get_tls(api) == f"hello {web.address}\n" and former not in (issuer(api), issuer(web)))
    cell.wait_well()
    reader.run(common)
    assert bundle(web) == (tmp_path / "root.crt").read_bytes()
    assert web.get_tls(api) == f"hello {web.address}\n"
    cell.wait_well()
    reader.run(begin)
    assert len(certificates(bundle(web), where="")) == 2
    assert web.get_tls(api) == f"hello {web.address}\n"
    former = issuer(api)
    reader.run(copying.replace("./cell-1", "./new-1"))
    reader.run(end)
    assert bundle(web) == (tmp_path / "new/root.crt").read_bytes()
    assert former not in (issuer(api), issuer(web))
    assert web.get_tls(api) == f"hello {web.address}\n"
    _etcds[cell.lab.root].ctl(*ROOT_USER, "put", "/cellnet/v1/cells/cell-2/record", "{}")
    eventually(lambda: not cell.status().flag("ok"))
    assert reader.run(removal) == steps(removal)[0][1]
    reader.run("$ cellnet policy delete tls --store-credentials operator.yaml")
    cell.wait_well()
