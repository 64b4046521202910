"""`cellnet hold`: a namespace on the overlay that stays whatever is in it, and goes when it is released."""

import subprocess
from pathlib import Path

from tests.testlib.cell import CellUnderTest


def held(cell: CellUnderTest, name: str) -> Path:
    return cell.lab.root / "run/cellnet/held" / name


def test_a_held_namespace_stays_over_restarts_and_is_one_until_it_is_released(cell: CellUnderTest) -> None:
    (api,) = cell.containers("acme/shop/api")
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    said = cell.cellnet("hold", "web", "--app=acme/shop/web").out
    address = cell.client.get("/v1/attachments/web").text("address")
    assert said.startswith(f"web has {address}, in {held(cell, 'web')}\n")
    again = cell.cellnet("hold", "web", "--app=acme/shop/web", code=1)
    assert "'web' is held already" in again.err
    cell.kill("up")
    cell.kill("agent")
    cell.start()
    assert cell.client.get("/v1/attachments/web").text("address") == address
    joined = ["nsenter", f"--net={held(cell, 'web')}", "curl", "-sS", "-m", "5", f"http://{api.address}:8080/"]
    assert subprocess.run(joined, capture_output=True, check=False).returncode == 0
    cell.cellnet("release", "web")
    assert not held(cell, "web").exists()
    assert "web" not in cell.attachments()
    assert cell.cellnet("release", "web").out == "there was no 'web'\n"


def test_what_cannot_be_attached_is_not_held_either(cell: CellUnderTest) -> None:
    done = cell.cellnet("hold", "web", "--app=acme/shop/web", "--port=61443", code=2)
    assert "port 61443 is cellnet's own" in done.err
    assert not held(cell, "web").exists()
    cell.cellnet("hold", "web", "--app=acme/shop/web")
    cell.cellnet("release", "web")


def test_a_namespace_that_is_held_under_a_reserved_name_has_its_place_and_is_of_its_app(cell: CellUnderTest) -> None:
    cell.cellnet("reserve", "web", "--app=acme/shop/web", "--instance=4")
    (reserved,) = cell.client.get("/v1/reservations").each()
    done = cell.cellnet("hold", "web", "--app=acme/shop/api", code=1)
    assert "the name 'web' is reserved for acme/shop/web" in done.err
    assert "cellnet release web" in done.err
    cell.cellnet("hold", "web", "--app=acme/shop/web")
    found = cell.client.get("/v1/attachments/web")
    assert (found.text("address"), found.text("instance")) == (reserved.text("address"), "4")
    cell.cellnet("release", "web")
    assert cell.attachments() == []


def test_an_unprivileged_caller_reads_that_it_takes_root(cell: CellUnderTest) -> None:
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    done = cell.lab.run(*words, "cellnet", "hold", "web", "--app=acme/shop/web")
    assert (done.code, "'cellnet hold' needs root" in done.err) == (1, True)
