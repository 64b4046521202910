"""A cell whose policies, tags and subnet are in an etcd that it shares with others, seen from this one cell."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.errors import Unavailable
from lab.cell import Cell
from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.stores.etcd import SmallEtcd

WEB, API, JOB = "acme/shop/web", "acme/shop/api", "acme/shop/job"
SHARED = "/cellnet/v1/"
_running: dict[Path, SmallEtcd] = {}


class CellWithEtcd(Cell):
    """Its etcd runs at the other end of its uplink."""

    def make(self, overrides: Sequence[str] = ()) -> None:
        super().make([*overrides, f"store.etcd.endpoints=['http://{OUTSIDE.ip}:2379']"])
        etcd = _running[self.root] = SmallEtcd(self.root / "etcd", netns=self.outside, address=OUTSIDE.ip)
        etcd.start()


@pytest.fixture(scope="module")
def cell_kind() -> Iterator[type[Cell]]:
    yield CellWithEtcd
    for etcd in _running.values():
        etcd.kill()
    _running.clear()


@pytest.fixture
def etcd(cell: CellUnderTest) -> SmallEtcd:
    return _running[cell.lab.root]


def policy(name: str, source: str, to: str) -> str:
    """As another cell writes it."""
    rule = {"name": name, "from": [source], "to": to, "tcp": ["8080"]}
    return json.dumps({"document": json.dumps({"policies": [rule]})})


def told(cell: CellUnderTest, words: str = "") -> bool:
    """Whether the status reports trouble with the store; an agent that is just starting reports nothing."""
    with contextlib.suppress(Unavailable):
        return any(each.text("area") == "store" and words in each.text("what") for each in cell.status().at("problems").each())
    return False


def well(cell: CellUnderTest) -> bool:
    with contextlib.suppress(Unavailable):
        return cell.status().flag("ok")
    return False


def test_a_policy_that_another_cell_applies_is_enforced_here_and_cut_when_it_deletes_it(
    cell: CellUnderTest, etcd: SmallEtcd
) -> None:
    web, api = cell.containers(WEB, API)
    assert web.connect(api, 8080) is Refused
    etcd.ctl("put", f"{SHARED}policies/theirs", policy("theirs", WEB, API))
    eventually(lambda: web.connect(api, 8080) is Connected)
    assert "theirs" in cell.cellnet("policy", "list").out
    etcd.ctl("del", f"{SHARED}policies/theirs")
    eventually(lambda: web.connect(api, 8080) is Refused)


def test_what_this_cell_applies_all_others_can_read(cell: CellUnderTest, etcd: SmallEtcd) -> None:
    cell.allow(WEB, API, "tcp/8080")
    assert "acme/shop/api" in etcd.ctl("get", "--prefix", f"{SHARED}policies/")
    assert WEB in etcd.ctl("get", "--prefix", f"{SHARED}tags/numbers/")
    assert cell.status().at("store").text("kind") == "etcd"
    cell.cellnet("policy", "delete", cell.cellnet("policy", "list", "--json").out.split('"name": "')[1].split('"')[0])


def test_a_tag_that_another_cell_gave_is_the_one_that_is_used_here(cell: CellUnderTest, etcd: SmallEtcd) -> None:
    etcd.ctl("put", f"{SHARED}tags/apps/{JOB}", '{"tag": 4711, "released": null}')
    etcd.ctl("put", f"{SHARED}tags/numbers/4711", JOB)
    etcd.ctl("put", f"{SHARED}cells/other/apps", f'["{JOB}"]')
    api = cell.run_app(API, port=8080, server=True)
    cell.allow(JOB, API, "tcp/8080")
    assert any("0x1267" in rule for rule in cell.rules())
    job = cell.run_app(JOB)
    assert job.connect(api, 8080) is Connected


@pytest.mark.parametrize("outage", ["killed", "silent"])
def test_an_outage_changes_nothing_and_ends_by_itself(cell: CellUnderTest, etcd: SmallEtcd, outage: str) -> None:
    web, api = cell.containers(WEB, API)
    cell.allow(WEB, API, "tcp/8080")
    etcd.kill() if outage == "killed" else etcd.freeze()
    eventually(lambda: told(cell))
    assert web.connect(api, 8080) is Connected
    second = cell.run_app(WEB, name="second")
    assert second.connect(api, 8080) is Connected
    cell.policy_file("job.yaml", f"policies:\n  - {{from: {API}, to: {WEB}, tcp: [8080]}}\n")
    assert api.connect(web, 8080) is Connected
    cell.cellnet("policy", "allow", JOB, API, "tcp/1", code=None)
    before = cell.agent_pid
    cell.kill("agent", again=True)
    eventually(lambda: told(cell) and cell.agent_pid != before)
    assert second.connect(api, 8080) is Connected
    etcd.start() if outage == "killed" else etcd.thaw()
    eventually(lambda: well(cell))
    assert second.connect(api, 8080) is Connected


def test_what_a_full_etcd_refused_is_written_by_itself_when_it_has_room(cell: CellUnderTest, etcd: SmallEtcd) -> None:
    cell.run_app(API)
    etcd.fill()
    cell.policy_file("new.yaml", f"policies:\n  - {{from: acme/shop/new, to: {API}, tcp: [8080]}}\n")
    eventually(lambda: not well(cell))
    assert "database space exceeded" in cell.cellnet("status", code=None).out
    etcd.make_room()
    eventually(lambda: "acme/shop/new" in etcd.ctl("get", "--prefix", "--keys-only", f"{SHARED}tags/apps/"), seconds=60)
    eventually(lambda: well(cell))


def test_lost_data_opens_nothing_and_closes_nothing(cell: CellUnderTest, etcd: SmallEtcd) -> None:
    web, api = cell.containers(WEB, API)
    cell.allow(WEB, API, "tcp/8080")
    kept = etcd.folder / "data"
    etcd.kill()
    kept.rename(etcd.folder / "lost")
    etcd.start()
    eventually(lambda: told(cell, "policies are held"))
    assert web.connect(api, 8080) is Connected
    assert api.connect(web, 8080) is Refused
    etcd.kill()
    shutil.rmtree(kept)
    (etcd.folder / "lost").rename(kept)
    etcd.start()
    eventually(lambda: well(cell))


def test_a_restored_cell_goes_by_what_its_etcd_has_now(cell: CellUnderTest, etcd: SmallEtcd, tmp_path: Path) -> None:
    """What etcd held when the backup was taken would be held on to, as the data of before that was lost."""
    kept = tmp_path / "cell-1.backup"
    web, api = cell.containers(WEB, API)
    cell.allow(WEB, API, "tcp/8080")
    cell.cellnet("backup", str(kept))
    cell.tidy()
    cell.stop()
    etcd.kill()
    shutil.rmtree(etcd.folder / "data")
    etcd.start()
    shutil.rmtree(cell.lab.root / "var/lib/cellnet")
    cell.cellnet("restore", str(kept))
    cell.start()
    web, api = cell.containers(WEB, API)
    assert not told(cell)
    assert web.connect(api, 8080) is Refused
    assert cell.cellnet("policy", "list", "--json").out.strip() == "[]"
