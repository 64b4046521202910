"""Fixtures of every test, and the check that a test run leaves the machine as it found it."""

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.testlib.cell import cell, cell_kind, cell_overrides, make_cell, module_cell  # noqa: F401 -- fixtures
from tests.testlib.cells import cells, make_cells, module_cells  # noqa: F401 -- fixtures
from tests.testlib.forms import every_form  # noqa: F401 -- a fixture
from tests.testlib.netns import PREFIX, Netns

pytest_plugins = ["tests.repository.skips", "tests.repository.durations"]
BEFORE = pytest.StashKey[dict[str, str]]()

# A busy machine is not a defect: an example may take its time. CI tries the same examples at each run, all others new ones.
settings.register_profile(
    "cellnet", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=os.environ.get("CI") == "true"
)
settings.load_profile("cellnet")

# Workers, of this run and of others, have hosts of their own, but would share the lock of this machine's iptables-legacy.
if "PYTEST_XDIST_WORKER" in os.environ:
    run, worker = os.environ["PYTEST_XDIST_TESTRUNUID"], os.environ["PYTEST_XDIST_WORKER"]
    os.environ["XTABLES_LOCKFILE"] = f"/run/cellnet-test-{run}-{worker}.lock"

# Hundreds of agents are started: each would compile all of cellnet anew where what is compiled may not be kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Envoy's user must reach what tests make, /run/netns among it, whatever the umask of the shell that runs them.
os.umask(0o022)

# What a shell without job control starts in the background, or nohup, ignores interrupts, and so would all that a test starts.
for each in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(each) is signal.SIG_IGN:
        signal.signal(each, signal.default_int_handler if each is signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="module")
def many_files() -> Iterator[None]:
    """As many open files as the host allows: an ordinary login's soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def netns() -> Iterator[Callable[[str], Netns]]:
    """Makes network namespaces, and removes them after the test."""
    made: list[Netns] = []

    def make(word: str = "ns") -> Netns:
        made.append(Netns(word))
        return made[-1]

    yield make
    for each in reversed(made):
        each.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The walks first, which take longest: begun last, they would be waited for when all else is done."""
    items.sort(key=lambda each: each.path.parent.name != "walk")


def traces() -> dict[str, str]:
    """What a test could leave behind on this machine, by kind."""
    saved = {tool: subprocess.run([tool], capture_output=True, text=True, check=False).stdout
             for tool in ("iptables-nft-save", "iptables-legacy-save")}  # fmt: skip
    rules = {tool: "\n".join(line for line in text.splitlines() if line[:1] in ("-", ":") and "CELLNET" in line)
             for tool, text in saved.items()}  # fmt: skip
    links = sorted(name for name in os.listdir("/sys/class/net") if name.startswith("cnet"))
    pins = sorted(name for name in os.listdir("/run/netns") if name.startswith(PREFIX)) if Path("/run/netns").is_dir() else []
    return {**rules, "links": " ".join(links), "namespaces": " ".join(pins)}


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> object:
    """Look before the first worker has begun; workers cannot distinguish their own traces from others'."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[BEFORE] = traces()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> object:
    """Compares the machine's own rules, links and namespaces before and after the run, all workers' together."""
    result = yield
    if hasattr(session.config, "workerinput"):
        Path(os.environ["XTABLES_LOCKFILE"]).unlink(missing_ok=True)
    elif traces() != session.config.stash[BEFORE]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nThe run left something behind.\nbefore: {session.config.stash[BEFORE]}\nafter:  {traces()}")
    return result
