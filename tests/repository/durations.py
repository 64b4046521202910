"""What each folder of tests took: a change that adds more takes away, so that `make test` stays within half an hour.

A pytest plugin, loaded by tests/conftest.py. Seconds of all workers together, set-up and end of each test included.
"""

from collections import Counter
from pathlib import PurePath

import pytest


def folder_of(nodeid: str) -> str:
    """`tests/cell/test_tls.py::test_x` -> `cell`; what stands in no folder of tests/ has an empty name."""
    parts = PurePath(nodeid.partition("::")[0]).parts
    return parts[1] if len(parts) > 2 and parts[0] == "tests" else ""


class Durations:
    """Adds up the reports of one run."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One part of one test, from whichever worker."""
        self._seconds[folder_of(report.nodeid)] += round(report.duration * 1000)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line with all folders, the longest first."""
        spent = [f"{folder or 'elsewhere'} {ms / 1000:.0f}" for folder, ms in self._seconds.most_common()]
        if spent:
            terminalreporter.write_sep("-", "seconds by folder")
            terminalreporter.write_line(", ".join(spent) + f"; in all {self._seconds.total() / 1000:.0f}")


def pytest_configure(config: pytest.Config) -> None:
    """Workers report to the main process, which alone prints."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Durations(), "durations")
