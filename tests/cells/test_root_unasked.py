"""Where TLS is demanded between cells, an agent without the common root's files waits for them, and says so."""

import shutil
from collections.abc import Callable

from lab.cell import Part
from tests.testlib.cells import CellsUnderTest
from tests.testlib.patience import eventually


def test_with_an_etcd_and_mutual_tls_no_root_is_made_unasked(make_cells: Callable[..., CellsUnderTest]) -> None:
    (cell,) = make_cells(1, "tls.mtls=accept")
    folder, kept = cell.lab.root / "var/lib/cellnet/ca", cell.lab.root / "kept"
    shutil.move(folder, kept)
    cell.kill("agent", again=True)
    eventually(lambda: "a root of this cell alone is not made" in cell.cellnet("status", code=1).err)
    assert "'cellnet ca issue-cell --cell cell-1 --out cell-1'" in cell.cellnet("status", code=1).err
    assert not (folder / "root.crt").exists()
    assert cell.lab.part(Part.ENVOY) is not None
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    cell.wait_well()
