"""A cell that writes without end: what the others have to do besides is done all the same."""

import sys
from pathlib import Path

from agent.store.etcd.keys import Keys
from lab import children
from tests.cells.conftest import Place
from tests.testlib.attacks.flooding_cell import FILLED, RECORD
from tests.testlib.cells import CellsUnderTest
from tests.testlib.node import Connected, Refused, connect_at_once
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB

PREFIX = "/cellnet"


def test_a_revoke_elsewhere_is_enforced_while_a_cell_floods(cells: CellsUnderTest, place: Place, tmp_path: Path) -> None:
    web, api = place(1, WEB), place(2, API, 8080)
    cells.allow(WEB, API, "tcp/8080")
    keys, log = Keys(PREFIX), tmp_path / "flood"
    module = [sys.executable, "-P", "-m", "tests.testlib.attacks.flooding_cell", cells.etcd.url, PREFIX]
    argv = ["env", f"PYTHONPATH={Path(__file__).parents[2]}", *module]
    flooding = children.start(argv, netns=cells.segment.netns, root=tmp_path, log=log)
    try:
        eventually(lambda: FILLED in log.read_text(), seconds=60)
        eventually(lambda: "cell flood floods etcd" in cells[2].cellnet("status", code=None).out, seconds=60)
        assert connect_at_once(web, api, 8080) is Connected
        cells[3].cellnet("policy", "delete", WEB, API, "tcp/8080")
        eventually(lambda: connect_at_once(web, api, 8080) is Refused)
        assert flooding.poll() is None, log.read_text()
    finally:
        flooding.kill()
        flooding.wait()
        for below in (keys.endpoints_of(RECORD.name), keys.cell(RECORD.name), keys.subnet(RECORD.subnet)):
            cells.etcd.try_ctl("del", "--prefix", below)
    cells.wait_well()
