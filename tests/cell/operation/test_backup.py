"""A cell that runs is backed up, loses its disk, and is what it was."""

import os
import shutil
import sys
from pathlib import Path

from agent.config.file import pending_file
from lab.children import CELLNET
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, run_in_shell
from tests.testlib.node import Connected, Refused

TEST = "tests/cell/operation/test_backup.py"
PAIR = ("acme/shop/web", "acme/shop/api")


def test_a_cell_that_lost_its_disk_comes_back_with_policies_tags_and_root(cell: CellUnderTest, tmp_path: Path) -> None:
    kept = tmp_path / "cell-1.backup"
    web, api = cell.containers(*PAIR)
    assert web.connect(api, 8080) is Refused
    cell.allow(*PAIR, "tcp/8080")
    assert web.connect(api, 8080) is Connected
    root = cell.client.get("/v1/ca").at("root").text("fingerprint")
    subnet = cell.status().at("cell").text("subnet")
    assert "backed up cell cell-1" in cell.cellnet("backup", str(kept)).out
    assert web.connect(api, 8080) is Connected
    assert "runs in this network namespace already" in cell.cellnet("restore", str(kept), code=1).err
    cell.stop()
    assert "would lose the network" in cell.cellnet("restore", str(kept), code=1).err
    cell.start()
    cell.forget_policies()
    cell.tidy()
    cell.stop()
    shutil.rmtree(cell.lab.root / "var/lib/cellnet")
    cell.cellnet("restore", str(kept))
    cell.start()
    assert cell.client.get("/v1/ca").at("root").text("fingerprint") == root
    assert cell.status().at("cell").text("subnet") == subnet
    web, api = cell.containers(*PAIR)
    assert web.connect(api, 8080) is Connected
    assert web.connect(api, 9000) is Refused


def test_an_agent_ends_what_a_killed_restore_has_begun(cell: CellUnderTest, tmp_path: Path) -> None:
    kept = tmp_path / "cell-1.backup"
    cell.policy_file("shop.yaml", "policies:\n  - {from: acme/shop/web, to: acme/shop/api, tcp: [8080]}\n")
    cell.cellnet("backup", str(kept))
    cell.stop()
    (cell.lab.policies / "shop.yaml").unlink()
    pending = pending_file(cell.lab.root / "etc/cellnet/agent.yaml")
    shutil.copyfile(kept, pending)  # what a restore writes first
    pending.chmod(0o600)
    cell.start()
    assert not pending.exists()
    web, api = cell.containers(*PAIR)
    assert web.connect(api, 8080) is Connected


def test_the_documents_commands_work(cell: CellUnderTest, tmp_path: Path) -> None:
    nightly, back = blocks("docs/backup.md", test=TEST)
    words = tmp_path / "words"
    words.write_text("correct horse\n")
    words.chmod(0o600)
    command = " ".join([*CELLNET, "--root", str(cell.lab.root)])
    instead = {
        "sudo cellnet": f"nsenter --net={cell.lab.netns} {command}",
        "/root/cell-1.words": str(words),
        "/root/cell-1.backup": str(tmp_path / "cell-1.backup"),
        "sudo ": "",
    }
    env = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    run_in_shell(nightly, folder=tmp_path, instead=instead, env=env)
    cell.stop()
    said = run_in_shell(back, folder=tmp_path, instead=instead, env=env)
    assert "restored cell cell-1" in said
