"""An agent on a kernel without IPv6, as after a boot with `ipv6.disable=1`: `python -m tests.testlib.agents.without_ipv6 ROOT`.

No process of it gets a socket of that family, which is where the legacy tools stop.
"""

import sys
from pathlib import Path

from agent.client.location import Location
from agent.daemon.main import run_agent
from tests.testlib.crashes import seccomp
from tests.testlib.unsupervised_cell import ModuleAgentCell


class CellWithoutIpv6(ModuleAgentCell):
    """A cell with such an agent."""

    module = "tests.testlib.agents.without_ipv6"


def main(root: Path) -> int:
    seccomp.refuse_ipv6()
    return run_agent(Location(root=root, config=None).load())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
