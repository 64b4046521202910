"""The stage, one per firewall backend; and `--mutated`, which proves that these tests see what they claim to see."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.testlib.attacks.attacked_cell import BACKENDS, AttackedCell, attacked_cell
from tests.testlib.attacks.attacked_hosts import AttackedHosts, attacked_hosts
from tests.testlib.attacks.attacker import AttackSucceeded
from tests.testlib.mutation import Kernel, asked, perhaps_mutated

# (test, what was taken out) -> what came of it -> case -> backends
_rows: dict[tuple[str, tuple[str, ...]], dict[str, dict[str, list[str]]]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutated", action="store_true", help="take out what stops each attack, and demand that it succeeds")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "stopped_by(*mutations): everything that stops the attack of this test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not asked(config):
        return
    chosen: list[pytest.Item] = []
    for item in items:
        marker = item.get_closest_marker("stopped_by")
        if marker is None:
            continue
        chosen.append(item)
        item.user_properties.append(("removed", [str(each) for each in marker.args]))
        if not any(isinstance(each, Kernel) for each in marker.args):
            item.add_marker(pytest.mark.xfail(raises=AttackSucceeded, strict=True))
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


class _Kept:
    """The stage of one backend at a time, until the tests of this folder are over."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._stage: AttackedCell | None = None
        self._backend = ""

    def get(self, backend: str, *, mutated: bool) -> AttackedCell:
        if self._stage is None or self._backend != backend:
            self.close()
            self._backend = backend
            self._stage = self._stack.enter_context(attacked_cell(backend, frozen=mutated))
        return self._stage

    def close(self) -> None:
        self._stage = None
        self._stack.close()


_kept = _Kept()


@pytest.hookimpl(wrapper=True, trylast=True)  # inside of what captures output
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    try:
        yield
    finally:
        if nextitem is None or nextitem.path.parent != item.path.parent:
            _kept.close()


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Session-wide, so that all tests of one come before those of the other."""
    return str(request.param)


@pytest.fixture(scope="module", params=BACKENDS)
def module_cells(request: pytest.FixtureRequest) -> Iterator[AttackedHosts]:
    """Two cells and more on one segment, for the tests of a module."""
    with attacked_hosts(request.param) as made:
        yield made


@pytest.fixture
def cells(module_cells: AttackedHosts, request: pytest.FixtureRequest) -> Iterator[AttackedHosts]:
    """The cells as they should be, or without what stops the test's attack."""
    if "egress" in request.fixturenames:
        request.getfixturevalue("egress")  # before the rules are changed by hand
    with perhaps_mutated(module_cells.ground, request):
        yield module_cells
        module_cells.undo()


@pytest.fixture
def stage(backend: str, request: pytest.FixtureRequest) -> Iterator[AttackedCell]:
    """The stage as it should be, or without what stops the test's attack."""
    kept = _kept.get(backend, mutated=asked(request.config))
    with perhaps_mutated(kept.ground, request):
        yield kept
        kept.undo()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    removed = dict(report.user_properties).get("removed")
    if report.when != "call" or not isinstance(removed, list):
        return
    said = "succeeds" if hasattr(report, "wasxfail") and report.skipped else "stopped" if report.passed else "FAILED"
    name, _, params = report.nodeid.rpartition("::")[2].rstrip("]").partition("[")
    backend, _, rest = params.partition("-")
    row = _rows.setdefault((name, tuple(removed)), {})
    row.setdefault(said, {}).setdefault(rest, []).append(backend)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if asked(config):
        for line in _table():
            terminalreporter.write_line(line)


def _table() -> Iterator[str]:
    yield "| attack | taken out | then |"
    yield "|---|---|---|"
    for (test, removed), outcomes in sorted(_rows.items()):
        said = []
        for outcome, cases in outcomes.items():
            backends = sorted({backend for found in cases.values() for backend in found})
            said.append(f"{outcome} ({', '.join(backends)}{f'; {len(cases)} cases' if len(cases) > 1 else ''})")
        what = test.removeprefix("test_").replace("_", " ")
        yield f"| {what} | {'; '.join(f'`{each}`' for each in removed)} | {'; '.join(said)} |"
