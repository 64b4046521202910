"""Leaves, cells' certificates and the root are rotated over three cells while all of them call each other."""

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.cell import Part
from lab.children import Finished
from tests.cells.conftest import Place
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.certificates import client_context
from tests.testlib.containers import ServingContainer
from tests.testlib.patience import eventually
from tests.testlib.tls_load import Call, mutual_tls_call, plain_call, tls_call, tls_load

WEB, API = "acme/shop/web", "acme/shop/api"
ISSUE = re.compile(r"run 'cellnet (ca issue-cell --cell (cell-\d) --out \S+)'")
KINDS: Sequence[Call] = (tls_call, mutual_tls_call, plain_call)


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    # leaves are renewed every 15 s, so that an agent may be dead for as long; a tunnel takes new streams for half of that
    return ("tls.leaf_lifetime=30s", "tls.mtls=strict")


class Authority:
    """A root away from the cells, and what its owner does by hand."""

    def __init__(self, folder: Path, cells: CellsUnderTest) -> None:
        self.folder, self._cells = folder, cells
        cells[1].cellnet("ca", "init", "--ca", str(folder))

    @property
    def certificate(self) -> str:
        return str(self.folder / "root.crt")

    def follow(self, hints: str) -> Iterator[CellUnderTest]:
        """Do what each hint says; the cells for which it was done, one after the other."""
        for command, name in ISSUE.findall(hints):
            cell, out = self._cells[int(name[-1])], self.folder.parent / name
            words = command.replace(f"--out {name}", f"--out {out}").split()
            self._cells[1].cellnet(*words, "--ca", str(self.folder))
            copy(out, cell)
            yield cell


def copy(made: Path, cell: CellUnderTest) -> None:
    for name in ("root.crt", "cell.crt", "cell.key"):
        shutil.copy(made / name, cell.lab.root / "var/lib/cellnet/ca" / name)


def trusted(cell: CellUnderTest) -> bytes:
    return cell.cellnet("ca", "show", "--pem").out.encode()


def rotate(cell: CellUnderTest, *words: str, code: int) -> Finished:
    return cell.cellnet("ca", "rotate", *words, code=code)


def test_leaves_cells_and_the_root_are_rotated_under_load_without_a_failed_call(
    cells: CellsUnderTest, place: Place, tmp_path: Path
) -> None:
    webs, apis = ([place(number, app, *ports, name=f"{app[10:]}-{number}") for number in (1, 2, 3)]
                  for app, ports in ((WEB, ()), (API, (8080,))))  # fmt: skip
    cells.allow(WEB, API, "tcp/61443", "tcp/8080")
    new = Authority(tmp_path / "new", cells)
    with tls_load(webs, apis, KINDS) as load:
        live = [web.dial_tls(api) for web in webs for api in apis]
        renew_cell(cells, tmp_path)
        rotate(cells[1], new.certificate, "--until", "trust", code=0)
        told = rotate(cells[1], "--wait", "0", code=1).out
        assert "step 2 of 3" in told
        assert sorted(ISSUE.findall(told))[0][1] == "cell-1"
        assert rotate(cells[3], "--status", code=1).out.count("awaited: ") == 3
        began = time.monotonic()
        for cell in new.follow(told):
            if cell is cells[2]:
                cell.kill("agent", again=True)
        cells.etcd.kill()
        assert "etcd" in rotate(cells[3], "--wait", "0", code=1).err
        cells.etcd.start()
        rotate(cells[3], "--until", "sign", code=0)
        print(f"new streams on all cells used the new root {time.monotonic() - began:.1f} s after the first copy")
        assert all(shows_only(new, web, api) for web in webs for api in apis)
        assert trusted(cells[2]) != Path(new.certificate).read_bytes(), "the old root is trusted beside the new one"
        assert "done: all cells sign with" in rotate(cells[2], code=0).out
        eventually(lambda: all(trusted(each) == Path(new.certificate).read_bytes() for each in cells))
        for connection in live:
            connection.sendall(b"echo")
            assert connection.recv(4) == b"echo"
        eventually(lambda: all(load.leaves(api) > 2 for api in apis), seconds=40)  # one of each root, and one renewed by itself
    assert load.failures == []
    assert all(load.answered[each.__name__] > 30 for each in KINDS)
    cells.wait_well()


def only_one_is_awaited(cell: CellUnderTest) -> None:
    """Wait until it is so."""
    eventually(lambda: rotate(cell, "--status", code=1).out.count("awaited: ") == 1)


def renew_cell(cells: CellsUnderTest, folder: Path) -> None:
    """The second cell's certificate, by the root that it has."""
    before = cells[2].status().at("ca").text("cell_not_after")
    words = ("--cell", "cell-2", "--out", str(folder / "renewed"), "--ca", str(cells.segment.root / "ca"))
    cells[2].cellnet("ca", "issue-cell", *words)
    copy(folder / "renewed", cells[2])
    eventually(lambda: cells[2].status().at("ca").text("cell_not_after") != before)


def shows_only(new: Authority, web: ServingContainer, api: ServingContainer) -> bool:
    """Whether a caller that trusts nothing but the new root takes what a target shows."""
    with web.dial_tls(api, context=client_context(Path(new.certificate).read_bytes())) as secure:
        secure.sendall(b"echo")
        return secure.recv(4) == b"echo"


def test_a_cell_whose_envoy_has_not_taken_the_root_is_waited_for_by_name_and_can_be_left_out(
    cells: CellsUnderTest, place: Place, tmp_path: Path
) -> None:
    place(2, API, 8080)
    new, old = Authority(tmp_path / "new", cells), tmp_path / "old.crt"
    old.write_bytes(trusted(cells[1]))
    envoy = cells[2].lab.part(Part.ENVOY)
    assert envoy is not None
    envoy.freeze()
    try:
        rotate(cells[1], new.certificate, "--wait", "0", code=1)
        only_one_is_awaited(cells[1])
        told = rotate(cells[1], "--wait", "0", code=1).out
        assert "awaited: cell-2: it does not trust the root that comes yet" in told
        assert "not done yet" in told
        found = cells[3].cellnet("ca", "rotate", "--status", "--json", code=1).out
        assert json.loads(found)["step"] == "trust"
        rotate(cells[3], "--until", "trust", "--without", "cell-2", code=0)
        assert (
            "passed over: cell-2: it is left out, as asked"
            in rotate(cells[3], "--without", "cell-2", "--wait", "0", code=1).out
        )
        refused = cells[1].cellnet("ca", "publish", str(old), code=1).err
        assert "a rotation of the root is under way" in refused
        assert "trust" in cells[1].status().at("rotation").text("step")
    finally:
        envoy.send(signal.SIGCONT)
    rotate(cells[3], "--until", "trust", code=0)
    assert "done: all cells sign with" in rotate(cells[1], str(old), code=0).out, "no cell signs with the new one: back it goes"
    eventually(lambda: all(trusted(each) == old.read_bytes() for each in cells))
    eventually(lambda: cells[1].status().at("rotation").missing)
