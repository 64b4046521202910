"""The plugin tests/repository/durations.py, on a test run of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.durations import folder_of

ROOT = Path(__file__).resolve().parents[2]
SLOW = "import time\ndef test_it(): time.sleep({seconds})\n"


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["alone", "with workers"])
def test_a_run_ends_with_what_each_folder_took(tmp_path: Path, options: list[str]) -> None:
    for folder, seconds in (("slow", 1.2), ("quick", 0)):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / f"test_{folder}.py").write_text(SLOW.format(seconds=seconds))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.repository.durations", *options]
    done = subprocess.run(
        argv, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[[" seconds by folder " in line for line in lines].index(True) + 1] == "slow 1, quick 0; in all 1"


def test_a_folder_is_the_one_below_tests() -> None:
    assert folder_of("tests/cell/test_tls.py::test_x[a::b]") == "cell"
    assert folder_of("tests/test_it.py::test_x") == ""


def test_every_run_of_this_repository_loads_the_plugin(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.has_plugin("tests.repository.durations")


def test_the_walks_which_take_longest_are_begun_first() -> None:
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-vv", "-p", "no:cacheprovider", "tests/ca", "tests/walk"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    files = [line.strip() for line in done.stdout.splitlines() if "<Module test_" in line]
    walks = {f"<Module {each.name}>" for each in (ROOT / "tests/walk").glob("test_*.py")}
    assert {"<Module test_plain.py>", "<Module test_strict.py>"} <= walks
    assert set(files[: len(walks)]) == walks
    assert "--no-loadscope-reorder" in (ROOT / "Makefile").read_text()
