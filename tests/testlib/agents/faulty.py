"""An agent whose libraries fail as no documentation says, while a test wants it: `python -m tests.testlib.agents.faulty ROOT`.

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
from tests.testlib.unsupervised_cell import ModuleAgentCell

WORDS = "the library is in a bad mood"
CALLS = {
    "links": ("dataplane.netlink.links", "create_veth"),
    "cryptography": ("cryptography.x509", "CertificateBuilder.sign"),
    "yaml": ("yaml", "parse"),
    "inotify": ("asyncinotify", "Inotify.sync_get"),
    "firewall": ("dataplane.firewall.backends.nft", "NftFirewall.apply"),
    "plan": ("agent.loop.loop", "plan"),
    "envoy": ("dataplane.envoy.ads.ads", "AdsServer.publish"),
    "monitor": ("dataplane.netlink.monitor", "Monitor.drain"),
}
"""What can be made to fail, by a name for it."""


class FaultyCell(ModuleAgentCell):
    """A cell with such an agent."""

    module = "tests.testlib.agents.faulty"

    @contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """One of CALLS fails for as long as the block lasts."""
        (self.root / "faulty").write_text(name)
        try:
            yield
        finally:
            (self.root / "faulty").unlink()


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
