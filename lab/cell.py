"""One cell on this machine: a network namespace with an underlay, a folder as root, and `cellnet up` running in it.

The machine's own network takes no part. The cell's uplink ends in a second namespace, `outside`, which stands for the rest of
the world: its own, or the segment that several cells share. The parts can be killed one by one, as a test of what they leave.
"""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Interface
from pathlib import Path

from agent.client.answer import Fields
from agent.client.location import Location
from agent.errors import HostRefused, Unavailable
from host import namespace
from host.namespace import NamespaceId
from lab import children, processes
from lab.children import Finished
from lab.processes import Process
from lab.segment import OUTSIDE, SWITCH, Segment, ip
from lab.settings import written

READY_SECONDS = 30.0
COMMAND_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.02
LOOK_SECONDS = 0.2  # looking for a process reads all of /proc, which slows down those that start
LOG_LINES = 12


class Part(Enum):
    """What runs in a cell."""

    UP = "up"
    AGENT = "agent"
    ENVOY = "envoy"
    DNS = "dns"
    HOP = "dns-hop"


HOP_MODULE = "dataplane.dns.hop"  # whether it waits or asks
PROGRAMS = {Part.ENVOY: "envoy", Part.DNS: "dnsmasq"}


@dataclass(frozen=True, slots=True)
class Cell:
    """Cell `number` below the folder `root`, which prefixes all its paths (keep it short: sockets are below it).

    `segment` is what it shares with others; without one it is alone with what is outside.
    """

    root: Path
    number: int = 1
    segment: Segment | None = None

    @property
    def netns(self) -> Path:
        """The pin of the cell's network namespace."""
        return self.root / "cell.net"

    @property
    def outside(self) -> Path:
        """The pin of the namespace at the other end of its uplink."""
        return self.segment.netns if self.segment else self.root / "outside.net"

    @property
    def uplink(self) -> str:
        """The name of its port there."""
        return f"uplink{self.number}"

    @property
    def log(self) -> Path:
        """What its parts have written."""
        return self.root / "up.log"

    @property
    def address(self) -> IPv4Interface:
        """Its address in the underlay."""
        return IPv4Interface(f"10.77.0.{self.number}/24")

    @property
    def policies(self) -> Path:
        """The default folder of policy files."""
        return self.root / "etc/cellnet/policies.d"

    def make(self, overrides: Sequence[str] = ()) -> None:
        """Namespaces, links and configuration (`KEY=VALUE`, KEY dotted); nothing runs yet. `root` must be there, empty.

        Raises InvalidInput for overrides that agent.yaml cannot hold.
        """
        config = written([f"cell=cell-{self.number}", *overrides], root=self.root)
        self.policies.mkdir(parents=True)
        (self.policies.parent / "agent.yaml").write_text(config)
        self.wire()

    def wire(self) -> None:
        """Namespaces and links alone: all that there is of a host that has just booted, beside what is on its disk."""
        namespace.create(self.netns)
        # a fresh host has 0 and the agent must set it; namespaces may start with the machine's 1
        forwarding = Path("/proc/sys/net/ipv4/ip_forward")
        namespace.run_in(self.netns, lambda: forwarding.write_text("0"))
        if self.segment is None:
            namespace.create(self.outside)
            ip(self.outside, "link set lo up")
        ip(self.netns, "link set lo up", f"link add eth0 type veth peer name {self.uplink} netns {self.outside}")
        where = f"link set {self.uplink} master {SWITCH}" if self.segment else f"addr add {OUTSIDE} dev {self.uplink}"
        ip(self.outside, where, f"link set {self.uplink} up")
        ip(self.netns, f"addr add {self.address} dev eth0", "link set eth0 up", f"route add default via {OUTSIDE.ip}")

    def unplug(self) -> None:
        """Its port goes down, as when the cable is pulled. Nothing happens if it is."""
        ip(self.outside, f"link set {self.uplink} down")

    def plug(self) -> None:
        """Its port goes up again. Nothing happens if it is."""
        ip(self.outside, f"link set {self.uplink} up")

    def start(self) -> None:
        """Start `cellnet up`, or let one go on that was frozen. It runs until it is stopped or killed."""
        frozen = self.part(Part.UP)
        if frozen is not None:
            frozen.send(signal.SIGCONT)
            return
        children.start([*children.CELLNET, "--root", str(self.root), "up"], netns=self.netns, root=self.root, log=self.log)

    def wait_well(self, *, seconds: float = READY_SECONDS) -> Fields:
        """Wait until the cell's status is well, and return it. Raises Unavailable, with the end of its log."""
        until = time.monotonic() + seconds
        started, looked = False, 0.0
        problem = "nothing answers"
        while time.monotonic() < until:
            try:
                found = self.status()
            except Unavailable as error:
                problem = error.what
            else:
                if found.flag("ok"):
                    return found
                problem = "; ".join(f"{each.text('area')}: {each.text('what')}" for each in found.at("problems").each())
            if time.monotonic() - looked > LOOK_SECONDS:
                up = self.part(Part.UP)
                if started and up is None:
                    raise Unavailable(f"cell {self.number}: 'cellnet up' has ended:\n{self.last_words()}", hint="see above")
                started, looked = started or up is not None, time.monotonic()
            time.sleep(POLL_SECONDS)
        what = f"cell {self.number} is not well after {seconds:g} s: {problem}"
        raise Unavailable(f"{what}\n{self.last_words()}", hint=f"cellnet lab exec {self.number} -- cellnet status")

    def status(self) -> Fields:
        """The agent's status. Raises Unavailable if it does not answer."""
        return Location(root=self.root, config=None).client().get("/v1/status")

    def cellnet(self, *words: str, timeout: float = COMMAND_SECONDS) -> Finished:
        """Run `cellnet WORDS` inside the cell."""
        return self.run(*children.CELLNET, *words, timeout=timeout)

    def run(self, *argv: str, timeout: float = COMMAND_SECONDS) -> Finished:
        """Run a command inside the cell."""
        return children.run(argv, netns=self.netns, root=self.root, timeout=timeout)

    def part(self, part: Part) -> Process | None:
        """The process of one part, None if it does not run. Raises HostRefused if there are several."""
        if not self.netns.exists():
            return None
        candidates = [each for each in processes.in_namespaces([NamespaceId.of(self.netns)]) if is_part(part, each.command)]
        # a child that has not yet become its own program still has its parent's command line
        found = [each for each in candidates if each.parent not in [other.pid for other in candidates]]
        if len(found) > 1:
            pids = ", ".join(str(each.pid) for each in found)
            raise HostRefused(f"several processes are the cell's {part.value}: {pids}", hint="cellnet lab down")
        return found[0] if found else None

    def kill(self, part: Part, *, again: bool = False) -> Process:
        """kill -9 one part, and wait until it is gone; returns its process. Raises HostRefused if it does not run.

        `up` would start its children again within a second: it is frozen, so that they stay dead until `start`, unless `again`.
        """
        found, up = self.part(part), self.part(Part.UP)
        if found is None:
            raise HostRefused(f"the cell's {part.value} does not run", hint="cellnet lab start")
        if up is not None and part is not Part.UP and not again:
            up.freeze()
        found.send(signal.SIGKILL)
        _await_end(found)
        return found

    def stop(self) -> None:
        """End `cellnet up` in order (SIGTERM): its children end, the kernel stays as it is."""
        up = self.part(Part.UP)
        if up is not None:
            up.send(signal.SIGTERM)
            up.send(signal.SIGCONT)
            _await_end(up)

    def last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_LINES:])


def is_part(part: Part, command: Sequence[str]) -> bool:
    """Whether a process is a part: `python -P -m agent [--root DIR] WORD`, or the program that it has become."""
    if part in PROGRAMS and command and Path(command[0]).name == PROGRAMS[part]:
        return True
    if part is Part.HOP and len(command) > 3 and HOP_MODULE in command[3]:
        return True
    if command[1:4] != children.CELLNET[1:4] or command[-1] != part.value:
        return False
    return set(command[4:-1:2]) <= {"--root", "--config"}  # else these words only end another program's command line


def _await_end(found: Process) -> None:
    until = time.monotonic() + STOP_SECONDS
    while found.lives:
        if time.monotonic() > until:
            raise HostRefused(f"process {found.pid} does not end", hint="see what it waits for")
        time.sleep(POLL_SECONDS / 4)
