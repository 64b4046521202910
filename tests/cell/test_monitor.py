"""The metrics of a cell that runs, by each way that docs/monitor.md shows."""

import os
import re
from pathlib import Path

from lab.children import CELLNET
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, run_in_shell

TEST = "tests/cell/test_monitor.py"
TEXTFILES = "/var/lib/node_exporter"


def run_shown(cell: CellUnderTest, block: str, folder: Path) -> str:
    instead = {
        "/run/cellnet/agent.sock": str(cell.lab.root / "run/cellnet/agent.sock"),
        "cellnet metrics": f"{' '.join([*CELLNET, '--root', str(cell.lab.root)])} metrics",
        TEXTFILES: str(folder),
    }
    return run_in_shell(block, folder=folder, instead=instead, env=os.environ)


def test_the_documents_commands_print_and_write_the_metrics(cell: CellUnderTest, tmp_path: Path) -> None:
    cell.run_app("acme/shop/web")
    socket, textfile = blocks("docs/monitor.md", test=TEST)
    printed = run_shown(cell, socket, tmp_path)
    assert printed.count("\ncellnet_attachments 1.0\n") == 2
    assert printed.count("\ncellnet_up 1.0\n") == 2
    run_shown(cell, textfile, tmp_path)
    written = tmp_path / "cellnet.prom"
    assert written.stat().st_mode & 0o777 == 0o644
    assert "\ncellnet_attachments 1.0\n" in written.read_text()
    assert [each.name for each in tmp_path.glob("*prom*")] == ["cellnet.prom"]


def test_without_an_agent_the_file_says_so_and_nothing_else(cell: CellUnderTest, tmp_path: Path) -> None:
    path = tmp_path / "cellnet.prom"
    cell.cellnet("metrics", "--textfile", str(path))
    cell.stop()
    assert "no agent answers" in cell.cellnet("metrics", "--textfile", str(path), code=1).err
    assert re.findall(r"^[^#].*$", path.read_text(), re.MULTILINE) == ["cellnet_up 0.0"]
    assert "cannot write" in cell.cellnet("metrics", "--textfile", str(tmp_path / "nowhere/x.prom"), code=1).err
