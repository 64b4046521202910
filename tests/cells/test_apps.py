"""Apps over several cells: each cell lists them all, and an app finds a neighbour elsewhere, whichever was there first."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.testlib.cells import CellsUnderTest
from tests.testlib.patience import eventually

SCOPE = "policies: [{name: shop, from: same-space, to: acme/shop/*, tcp: any}]\n"
DB = "WARP_IST_db=db.shop.acme.cell.internal"


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("service_env_prefixes=[WARP_IST_]",)


def test_neighbours_on_other_cells_are_listed_and_found_in_either_order(cells: CellsUnderTest, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(SCOPE)
    cells[1].cellnet("policy", "apply", "-f", str(tmp_path / "shop.yaml"))
    cells.sync()
    early = cells[1].run_app("acme/shop/web")
    file = Path(cells[1].client.get("/v1/attachments/web/environment").text("environment_file"))
    assert DB not in file.read_text()

    db = cells[2].run_app("acme/shop/db", port=8080, server=True)
    eventually(lambda: f"{DB}\n" in file.read_text())
    assert DB in early.exec("env").splitlines()
    eventually(lambda: early.exec("getent", "hosts", "db", code=None).split()[:1] == [str(db.address)])

    def listed() -> list[list[str]]:
        return [line.split() for line in cells[3].cellnet("apps", "--space", "acme/shop").out.splitlines()[1:]]

    row = ["acme/shop/db", "0", "cell-2", str(db.address), "8080", "-", "yes"]
    eventually(lambda: row in listed())
    eventually(lambda: ["acme/shop/web", "0", "cell-1", str(early.address), "-", "-", "yes"] in listed())
    assert DB in cells[3].cellnet("run", "--app", "acme/shop/late", "--", "env").out.splitlines()
    assert "cell-2  db " in cells[3].cellnet("ps", "--all").out
    done = cells[3].cellnet("policy", "check", "acme/shop/web", "acme/shop/dbb", "tcp/80")
    assert done.err == "warning: nothing of acme/shop/dbb runs here or is named; did you mean acme/shop/db?\n"

    cells[2].cellnet("space", "acme/shop", "--apps", "cache")
    eventually(lambda: "WARP_IST_cache=cache.shop.acme.cell.internal\n" in file.read_text())
    cells[2].kill("agent")
    cells[2].start()
    assert "acme/shop/cache" in [words[0] for words in listed()]
    cells[2].cellnet("space", "acme/shop", "--apps", "")
    eventually(lambda: "acme/shop/cache" not in [words[0] for words in listed()])

    db.stop()
    eventually(lambda: row not in listed())
    assert DB in early.exec("env").splitlines(), "it may come back"
