"""A host in a namespace, with an underlay, and configurations of cells there."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from agent.config.config import Config
from agent.config.load import loaded
from host.namespace import run_in
from tests.testlib.netns import Netns

Result = TypeVar("Result")
ETCD = "store: {etcd: {endpoints: ['http://127.0.0.1:9']}}\n"
Configured = Callable[..., Config]


@pytest.fixture
def host(netns: Callable[[str], Netns]) -> Netns:
    """10.77.0.1 on eth0, which leads everywhere."""
    made, other = netns("host"), netns("other")
    made.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(other.path))
    made.run("ip", "address", "add", "10.77.0.1/24", "dev", "eth0")
    made.run("ip", "link", "set", "eth0", "up")
    made.run("ip", "route", "add", "default", "via", "10.77.0.2")
    return made


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="cnt-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def configured(root: Path) -> Configured:
    """What an agent.yaml says, below a root of the test's."""
    return lambda text="": loaded(text.encode(), path=root / "agent.yaml", root=root, hostname="cell-1")


def inside(host: Netns, look: Callable[[], Result]) -> Result:
    """Look in the host's namespace."""
    return run_in(host.path, look)
