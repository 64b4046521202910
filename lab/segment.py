"""The network that cells are plugged into: a namespace with a switch, and a port for each cell.

The switch stands for the rest of the world: its address is the cells' default gateway, and their etcd listens there. A port
that is down is a pulled cable: its cell is cut from the others and from etcd, and both ends see that.
"""

from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from host import namespace, process
from lab.etcd import Etcd

OUTSIDE = IPv4Interface("10.77.0.254/24")
CELLS = 200  # their addresses are .1 to .200 of that network
SWITCH = "switch"
MAC = "02:00:0a:4d:00:fe"  # otherwise it has that of one of its ports, and another when that is gone


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment below the folder `root`, with the pin of its namespace and the files of its etcd."""

    root: Path

    @property
    def netns(self) -> Path:
        """The pin of its namespace."""
        return self.root / "segment.net"

    @property
    def etcd(self) -> Etcd:
        """The store of all its cells."""
        return Etcd(self.root / "etcd", netns=self.netns, host=str(OUTSIDE.ip))

    def make(self) -> None:
        """The namespace and the switch, no ports yet. `root` must be there."""
        namespace.create(self.netns)
        ip(
            self.netns, "link set lo up", f"link add {SWITCH} address {MAC} type bridge", f"addr add {OUTSIDE} dev {SWITCH}",
            f"link set {SWITCH} up",
        )  # fmt: skip


def ip(netns: Path, *lines: str) -> None:
    """Commands of ip(8), inside."""
    stdin = "\n".join(lines).encode()
    namespace.run_in(netns, lambda: process.run(["ip", "-batch", "-"], timeout=10.0, stdin=stdin))
