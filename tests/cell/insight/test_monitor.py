"""The metrics of a cell that runs, by each way that docs/monitor.md shows."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from lab.children import CELLNET
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import ROOT, blocks, commands, run_in_shell
from tests.testlib.node import Refused
from tests.testlib.patience import eventually

TEST = "tests/cell/insight/test_monitor.py"
YAML = re.compile(r"^```yaml\n(metrics:.*?)^```$", re.MULTILINE | re.DOTALL)
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
    socket, textfile, *_ = blocks("docs/monitor.md", test=TEST)
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


def test_the_documents_listener_serves_who_has_the_token_and_no_container(
    make_cell: Callable[..., CellUnderTest], tmp_path: Path
) -> None:
    cell = make_cell()
    etc, (web,) = cell.lab.root / "etc/cellnet", cell.containers("acme/shop/web")
    _, _, made, asked = blocks("docs/monitor.md", test=TEST)
    instead = {"/etc/cellnet": str(etc), "curl": f"nsenter --net={cell.lab.outside} curl"}
    run_in_shell(made, folder=tmp_path, instead=instead, env=os.environ)
    (settings,) = YAML.findall((ROOT / "docs/monitor.md").read_text())
    with (etc / "agent.yaml").open("a") as config:
        config.write(settings)
    cell.kill("agent", again=True)
    eventually(lambda: "cellnet_up 1.0" in cell.outside.run("sh", "-c", f"{curl(asked, instead)} || true"))
    printed = run_in_shell(asked, folder=tmp_path, instead=instead, env=os.environ)
    assert "\ncellnet_attachments 1.0\n" in printed
    assert web.connect(cell.host, 9465) is Refused
    assert cell.wait_well().flag("ok")
    (etc / "metrics.key").unlink()
    eventually(lambda: any("metrics are not served" in each.text("what") for each in cell.status().at("problems").each()))


def curl(block: str, instead: dict[str, str]) -> str:
    """The command of a block, for a shell in the namespace already."""
    (command,) = commands(block)
    return command.replace("/etc/cellnet", instead["/etc/cellnet"])
