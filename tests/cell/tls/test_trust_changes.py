"""Whom a cell trusts, changed while TLS is served: new roots count at once, old connections stay, a renewed CA is taken up."""

import contextlib
import shutil
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ca.disk import init_root
from ca.issuing import issue
from ca.pem import certificates
from lab.cell import Cell
from tests.testlib.cell import CellUnderTest
from tests.testlib.certificates import TRUST_DOMAIN, identity, load_leaf, make_ca
from tests.testlib.instance import Instance
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"
POLICY = f"policies:\n- {{from: {WEB}, to: {API}, tcp: 61443}}\n"
FOREIGN = make_ca()


class CellOfAnAuthority(Cell):
    """Its root is not in its own folder."""

    def make(self, overrides: Sequence[str] = ()) -> None:
        super().make(overrides)
        authority, now = self.root / "authority", datetime.now(UTC)
        init_root(authority, trust_domain=TRUST_DOMAIN, now=now)
        ca_of(self).parent.mkdir(parents=True, exist_ok=True)
        issue(authority, cell="cell-1", out=ca_of(self), now=now, lifetime=timedelta(days=30))


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return CellOfAnAuthority


def ca_of(cell: Cell) -> Path:
    return cell.root / "var/lib/cellnet/ca"


def two(cell: CellUnderTest) -> tuple[Instance, Instance]:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True)
    cell.policy_file("shop.yaml", POLICY)
    return web, api


def bundle(instance: Instance) -> bytes:
    """The roots in its one file, which are those of the folder for OpenSSL, too."""
    file, folder = Path(instance.environment["CF_INSTANCE_CA"]), Path(instance.environment["CF_SYSTEM_CERT_PATH"])
    (hashed,) = [each for each in folder.iterdir() if each != file]
    assert set(certificates(hashed.read_bytes(), where="")) == set(certificates(file.read_bytes(), where=""))
    return file.read_bytes()


def taken(web: Instance, api: Instance) -> bool:
    """Whether api's Envoy takes the certificate that another root vouches for.

    In a thread of its own: OpenSSL keeps errors for each thread, and Python 3.13 takes what a refused connection leaves there
    for the next one's.
    """
    with ThreadPoolExecutor(max_workers=1) as apart:
        return apart.submit(_taken, web, api).result()


def _taken(web: Instance, api: Instance) -> bool:
    context = web.tls_context()
    load_leaf(context, FOREIGN.leaf(identity(WEB, address=str(web.address))))
    with contextlib.suppress(OSError), web.dial_tls(api, context=context) as secure:
        return echoed(secure)
    return False


def echoed(secure: ssl.SSLSocket) -> bool:
    secure.sendall(b"echo")
    return secure.recv(4) == b"echo"


def test_a_published_root_counts_at_once_until_it_is_taken_back_and_no_connection_drops(
    cell: CellUnderTest, tmp_path: Path
) -> None:
    web, api = two(cell)
    live = web.dial_tls(api)
    own = bundle(web)
    assert not taken(web, api)
    (tmp_path / "root.crt").write_bytes(FOREIGN.root.bundle())
    assert "CN=root cell.internal" in cell.cellnet("ca", "publish", str(tmp_path / "root.crt")).out
    assert set(certificates(bundle(web), where="")) == {*certificates(own, where=""), FOREIGN.root.certificate}
    assert cell.cellnet("ca", "show", "--pem").out.encode() == bundle(web)
    assert taken(web, api)
    assert echoed(live)
    told = [each.text("what") for each in cell.status().at("problems").each()]
    assert any("other cells do not trust this cell" in what for what in told)
    cell.cellnet("ca", "publish", "--add")
    cell.wait_well()
    assert taken(web, api)
    cell.cellnet("ca", "publish")
    assert bundle(web) == own
    assert not taken(web, api)
    assert echoed(live)


def test_what_was_published_holds_over_a_restart_from_its_first_moment(cell: CellUnderTest, tmp_path: Path) -> None:
    web, api = two(cell)
    (tmp_path / "root.crt").write_bytes(FOREIGN.root.bundle())
    cell.cellnet("ca", "publish", "--add", str(tmp_path / "root.crt"))
    cell.cellnet("ca", "publish", "--add")
    there = bundle(web)
    inode = Path(web.environment["CF_INSTANCE_CA"]).stat().st_ino
    cell.kill("agent")
    cell.start()
    assert bundle(web) == there
    assert Path(web.environment["CF_INSTANCE_CA"]).stat().st_ino == inode, "never anything else in between"
    assert taken(web, api)
    cell.cellnet("ca", "publish")


def test_what_is_no_root_is_refused_and_nothing_changes(cell: CellUnderTest, tmp_path: Path) -> None:
    before = cell.cellnet("ca", "show", "--pem").out
    (tmp_path / "leaf").write_bytes(FOREIGN.leaf(identity(WEB)).chain)
    assert "is not a CA's certificate; hint: " in cell.cellnet("ca", "publish", str(tmp_path / "leaf"), code=2).err
    assert cell.cellnet("ca", "show", "--pem").out == before


def test_a_renewed_certificate_is_taken_up_without_a_dropped_connection_and_never_a_pair_that_does_not_fit(
    cell: CellUnderTest, tmp_path: Path
) -> None:
    folder, authority = ca_of(cell.lab), cell.lab.root / "authority"
    web, api = two(cell)
    live = web.dial_tls(api)
    ends = cell.status().at("ca").text("cell_not_after")
    assert "renewed by the root's owner" in cell.cellnet("ca", "show").out
    cell.cellnet("ca", "issue-cell", "--ca", str(authority), "--cell", "cell-1", "--out", str(tmp_path / "next"))
    shutil.copy(tmp_path / "next/cell.crt", folder / "cell.crt")
    eventually(lambda: any("cell.key is not the key of" in words for words in problems(cell)))
    assert web.get_tls(api) == f"hello {web.address}\n"
    shutil.copy(tmp_path / "next/cell.key", folder / "cell.key")
    eventually(lambda: problems(cell) == [] and cell.status().at("ca").text("cell_not_after") != ends)
    late = cell.run_app(WEB, name="late")
    issuer = certificates((folder / "cell.crt").read_bytes(), where="")[0]
    assert certificates(Path(late.environment["CF_INSTANCE_CERT"]).read_bytes(), where="")[1] == issuer
    assert late.get_tls(api) == f"hello {late.address}\n"
    assert echoed(live)


def test_with_the_key_missing_valid_certificates_stay_in_use_and_it_is_reported_over_a_restart_too(
    cell: CellUnderTest, tmp_path: Path
) -> None:
    key = ca_of(cell.lab) / "cell.key"
    web, api = two(cell)
    live = web.dial_tls(api)
    shutil.move(key, tmp_path / "kept")
    eventually(lambda: any("cell.key is missing while" in words for words in problems(cell)))
    late = cell.run_app(WEB, name="late")
    assert late.get_tls(api) == f"hello {late.address}\n", "the agent has it in memory"
    cell.kill("agent")
    cell.start(well=False)
    eventually(lambda: "no new certificate for the cell: " in cell.cellnet("status", code=1).out)
    assert web.get_tls(api) == f"hello {web.address}\n"
    assert echoed(live)
    refused = cell.cellnet("run", "--app", WEB, "--", "true", code=None)
    assert refused.code != 0
    assert "no certificate can be issued: " in refused.err
    assert "put it back" in refused.err
    cell.policy_file("shop.yaml", "policies: []\n")
    with pytest.raises(OSError, match=r"reset|EOF occurred"):
        eventually(lambda: not echoed(live))
    cell.policy_file("shop.yaml", POLICY)
    live = web.dial_tls(api)
    shutil.move(tmp_path / "kept", key)
    cell.wait_well()
    assert web.get_tls(api) == f"hello {web.address}\n"
    assert echoed(live)


def problems(cell: CellUnderTest) -> list[str]:
    return [each.text("what") for each in cell.status().at("problems").each()]
