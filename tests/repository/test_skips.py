"""The plugin tests/repository/skips.py, on test runs of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKIPS = {
    "in the test": "import pytest\ndef test_it(): pytest.skip('no tool')\n",
    "by a mark": "import pytest\n@pytest.mark.skipif(True, reason='no tool')\ndef test_it(): pass\n",
    "in a fixture": "import pytest\n@pytest.fixture\ndef it(): pytest.skip('no tool')\ndef test_it(it): pass\n",
    "as a module": "import pytest\npytest.skip('no tool', allow_module_level=True)\n",
    "for want of a module": "import pytest\npytest.importorskip('no_such_module', reason='no tool')\n",
}


def run(folder: Path, *, text: str, ci: bool) -> subprocess.CompletedProcess[str]:
    """One pytest run on one file, with the plugin."""
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.repository.skips", "test_it.py"],
        cwd=folder, env=environment | {"PYTHONPATH": str(ROOT)} | ({"CI": "true"} if ci else {}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("way", SKIPS)
def test_a_skip_fails_in_ci_with_its_reason(tmp_path: Path, way: str) -> None:
    done = run(tmp_path, text=SKIPS[way], ci=True)
    assert done.returncode != 0
    assert "in CI nothing is skipped" in done.stdout
    assert "no tool" in done.stdout


@pytest.mark.parametrize("way", SKIPS)
def test_a_skip_is_no_failure_elsewhere(tmp_path: Path, way: str) -> None:
    done = run(tmp_path, text=SKIPS[way], ci=False)
    assert done.returncode in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "skipped" in done.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    text = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_it(): assert False\n"
    assert run(tmp_path, text=text, ci=True).returncode == 0


def test_every_run_of_this_repository_loads_the_plugin(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.has_plugin("tests.repository.skips")
