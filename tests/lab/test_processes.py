"""Which process is which part of a cell, among those that look alike."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host.errors import HostRefused
from lab.cell import Cell, Part
from lab.children import CELLNET
from lab.etcd import Etcd
from lab.processes import belonging_to
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually

FORKS = "import os, time\nif os.fork():\n    print('forked', flush=True)\ntime.sleep(60)\n"


def test_a_child_that_has_not_become_its_program_is_not_taken_for_its_parent(
    netns: Callable[[str], Netns], tmp_path: Path
) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/__init__.py").touch()  # else the real agent is found in its place
    (tmp_path / "agent/__main__.py").write_text(FORKS)
    inside = netns("cell")
    cell = Cell(tmp_path)
    cell.netns.symlink_to(inside.path)
    argv = ["nsenter", f"--net={inside.path}", "--", *CELLNET, "up"]
    environment = {"PYTHONPATH": str(tmp_path), "CELLNET_ROOT": str(tmp_path)}
    parent = subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, **environment}, start_new_session=True)
    try:
        assert parent.stdout is not None
        parent.stdout.readline()
        time.sleep(0.05)
        found = cell.part(Part.UP)
        assert found is not None
        assert found.pid == parent.pid
    finally:
        os.killpg(parent.pid, 9)
        parent.communicate()


def test_a_container_with_a_lab_of_its_own_is_not_taken_for_ours(netns: Callable[[str], Netns], tmp_path: Path) -> None:
    root, elsewhere, inside = tmp_path / "lab", tmp_path / "elsewhere", netns("container")
    root.mkdir()
    elsewhere.mkdir()
    words = ["unshare", "-m", "sh", "-c", f"mount --bind {elsewhere} {root} && exec sleep 60"]
    theirs = inside.start(*words, env={**os.environ, "CELLNET_ROOT": str(root)})
    ours = inside.start("sleep", "60", env={**os.environ, "CELLNET_ROOT": str(root)})
    try:
        eventually(lambda: sleeps(theirs.pid) and sleeps(ours.pid))
        found = {each.pid for each in belonging_to([root], ())}
        assert (ours.pid in found, theirs.pid in found) == (True, False)
    finally:
        for each in (theirs, ours):
            each.kill()
            each.wait()


def test_processes_of_a_cell_belong_to_the_lab_around_it(netns: Callable[[str], Netns], tmp_path: Path) -> None:
    for number in ("1", "10"):
        (tmp_path / number).mkdir()
    child = netns("container").start("sleep", "60", env={**os.environ, "CELLNET_ROOT": str(tmp_path / "1")})
    try:
        eventually(lambda: sleeps(child.pid))
        found = [[each.pid for each in belonging_to([root], ())] for root in (tmp_path, tmp_path / "1", tmp_path / "10")]
        assert found == [[child.pid], [child.pid], []]
    finally:
        child.kill()
        child.wait()


def sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"


def test_without_etcd_the_lab_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostRefused, match="etcd is not installed") as refused:
        Etcd(tmp_path / "etcd", netns=None, host="127.0.0.1").start()
    assert refused.value.hint == "'sudo make lab' installs it"
