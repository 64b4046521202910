"""The repository checks itself: what `make check` runs are tests too, and CI runs what the README says."""

import runpy
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import pytest

ROOT = Path(__file__).resolve().parents[2]


class TooLarge(Protocol):
    """`too_large` of setup/sizes.py."""

    def __call__(self, text: str, name: str) -> Iterator[str]: ...


@pytest.fixture(scope="module")
def too_large() -> TooLarge:
    return cast("TooLarge", runpy.run_path(str(ROOT / "setup" / "sizes.py"))["too_large"])


@pytest.mark.timeout(600)  # mypy's first run on a slow machine
@pytest.mark.parametrize("check", ["lint", "format", "types", "layers", "sizes"])
def test_the_repository_is_clean(check: str) -> None:
    done = subprocess.run([ROOT / "setup" / "check", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_function_of_51_lines_and_a_file_of_401_are_too_large(too_large: TooLarge) -> None:
    def function(lines: int) -> str:
        return "def f():\n" + "    pass\n" * (lines - 1)

    assert list(too_large(function(50), "a.py")) == []
    assert list(too_large(function(51), "a.py")) == ["a.py:1: f has 51 lines, 50 at most"]
    assert list(too_large("async " + function(51), "a.py")) == ["a.py:1: f has 51 lines, 50 at most"]
    assert list(too_large("\n" * 400, "a.py")) == []
    assert list(too_large("\n" * 401, "a.py")) == ["a.py:1: 401 lines, 400 at most"]


def test_every_folder_with_python_has_its_sizes_checked() -> None:
    listed = runpy.run_path(str(ROOT / "setup" / "sizes.py"))["FOLDERS"]
    folders = {path.name for path in ROOT.iterdir() if path.name[0] != "." and path.is_dir() and any(path.rglob("*.py"))}
    assert folders <= set(listed)


def test_ci_runs_the_readmes_test_command_and_nothing_else() -> None:
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert commands == ['cd "$(dirname "$0")/.." || exit', "ulimit -Sn 1024", "umask 027", "exec make test"]
    assert "$ sudo make test\n" in (ROOT / "README.md").read_text()


def test_every_command_of_the_layers_contract_names_a_real_package() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    named = {word for layer in layers for word in layer.replace("|", " ").split() if not word.startswith("(")}
    there = {path.stem for path in (ROOT / "agent").iterdir()}
    assert named <= there
