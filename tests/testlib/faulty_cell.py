"""An agent whose libraries fail as no documentation says, while a test wants it: `python -m tests.testlib.faulty_cell ROOT`.

ROOT/faulty has the name of the one that fails.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from agent.client.location import Location
from agent.daemon.main import run_agent
from host.namespace import NamespaceId
from lab import children, processes
from lab.cell import Part
from lab.processes import Process
from tests.testlib.unsupervised_cell import UnsupervisedCell

ROOT = Path(__file__).parents[2]
NAME = "tests.testlib.faulty_cell"
WORDS = "the library is in a bad mood"
CALLS = {
    "pyroute2": ("dataplane.netlink.links", "create"),  # a call of it
    "cryptography": ("cryptography.x509", "CertificateBuilder.sign"),
    "yaml": ("yaml", "parse"),
    "inotify": ("asyncinotify", "Inotify.sync_get"),
    "firewall": ("dataplane.firewall.nft", "NftFirewall.apply"),
    "plan": ("agent.loop.loop", "plan"),
    "envoy": ("dataplane.envoy.ads", "AdsServer.publish"),
    "monitor": ("dataplane.netlink.monitor", "Monitor.drain"),
}
"""What can be made to fail, by a name for it."""


class FaultyCell(UnsupervisedCell):
    """A cell with such an agent."""

    @contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """One of CALLS fails for as long as the block lasts."""
        (self.root / "faulty").write_text(name)
        try:
            yield
        finally:
            (self.root / "faulty").unlink()

    def start_part(self, part: Part) -> None:
        """The agent by this module."""
        if part is not Part.AGENT:
            super().start_part(part)
            return
        argv = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-m", NAME, str(self.root)]
        children.start(argv, netns=self.netns, root=self.root, log=self.log)

    def part(self, part: Part) -> Process | None:
        """The agent is this module too."""
        if part is not Part.AGENT:
            return super().part(part)
        return next((each for each in processes.in_namespaces([NamespaceId.of(self.netns)]) if NAME in each.command), None)


def _made_faulty(name: str, root: Path) -> None:
    module, path = CALLS[name]
    owner: Any = import_module(module)
    *classes, function = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    setattr(owner, function, _faulty(getattr(owner, function), name, root / "faulty"))


def _faulty(call: Callable[..., Any], name: str, file: Path) -> Callable[..., Any]:
    def called(*arguments: Any, **options: Any) -> Any:
        if file.exists() and file.read_text() == name:
            raise RuntimeError(WORDS)
        return call(*arguments, **options)

    return called


def main(root: Path) -> int:
    for name in CALLS:
        _made_faulty(name, root)
    return run_agent(Location(root=root, config=None).load())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
