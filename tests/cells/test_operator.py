"""What an operator does with cells, and what all of them then hold to: which are there, trusted, gone."""

from pathlib import Path

from tests.testlib import certificates
from tests.testlib.cells import CellsUnderTest
from tests.testlib.patience import eventually
from tests.testlib.status import is_seen_alive, listed, name_of

WEB = "acme/shop/web"


def test_every_cell_lists_all_and_itself_once(cells: CellsUnderTest) -> None:
    eventually(lambda: all(is_seen_alive(one, by=other) for one in cells for other in cells if one is not other))
    seen = [listed(each) for each in cells]
    assert len(seen[0]) == len(cells)
    for cell, rows in zip(cells, seen, strict=True):
        assert [name for name, row in rows.items() if row["here"]] == [cell.status().at("cell").text("name")]
        assert all(row["alive_since"] for row in rows.values())
        assert {name: (row["underlay"], row["subnet"]) for name, row in rows.items()} == {
            name: (row["underlay"], row["subnet"]) for name, row in seen[0].items()
        }


def test_a_root_that_one_cell_publishes_is_what_the_apps_of_another_read(cells: CellsUnderTest, tmp_path: Path) -> None:
    trusted = cells[2].run_app(WEB).environment["CF_INSTANCE_CA"]
    before, foreign = Path(trusted).read_bytes(), certificates.make_ca().root
    (tmp_path / "root.crt").write_bytes(foreign.bundle())
    cells[1].cellnet("ca", "publish", "--add")
    cells[1].cellnet("ca", "publish", "--add", str(tmp_path / "root.crt"))
    eventually(lambda: foreign.bundle() in Path(trusted).read_bytes())
    assert before in Path(trusted).read_bytes()
    cells.etcd.kill()
    cells[2].kill("agent")
    cells[2].start(well=False)
    eventually(lambda: foreign.bundle().decode() in cells[2].cellnet("ca", "show", "--pem", code=None).out, seconds=60)
    assert foreign.bundle() in Path(trusted).read_bytes()
    cells.etcd.start()
    cells.wait_well()
    cells[1].cellnet("ca", "publish")
    eventually(lambda: Path(trusted).read_bytes() == before)


def test_a_cell_that_is_alive_cannot_be_removed_and_one_that_is_gone_leaves_nothing(cells: CellsUnderTest) -> None:
    name = cells[3].status().at("cell").text("name")
    told = cells[1].cellnet("cell", "remove", name, code=1).err
    assert f"cell {name} is alive; hint: stop its agent first" in told
    assert "did you mean" in cells[1].cellnet("cell", "remove", f"{name}x", code=1).err
    cells[3].stop()
    assert cells.etcd.try_ctl("del", f"/cellnet/v1/cells/{name}/alive").code == 0  # as its lease would, half a minute later
    eventually(lambda: listed(cells[1])[name]["alive_since"] is None)
    assert cells[1].cellnet("cell", "remove", name).out == f"removed {name}\n"
    eventually(lambda: all(name not in listed(cell) for cell in (cells[1], cells[2])))
    eventually(lambda: [each.text("name") for each in cells[1].status().at("peers").each()] == [name_of(cells[2])])
    assert cells.etcd.try_ctl("get", "--prefix", f"/cellnet/v1/cells/{name}/").out == ""
    cells[3].start()
    eventually(lambda: name in listed(cells[1]))
