"""dnsmasq as a cell has it, without an agent: a host with the cell's rules and containers, and the folder of names in a test's
hands."""

import itertools
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from agent.dns.process import dnsmasq_program
from dataplane.dns.command import DnsmasqSettings, Upstream, command
from dataplane.dns.hosts_files import HostsFolder, block_of
from dataplane.firewall.backends.driver import Firewall
from dataplane.state import Resolver
from lab import folders
from tests.testlib.dns.client import RESOLVER, Code, ask_once
from tests.testlib.hosts import OVERLAY, SUBNET, Host, make_host
from tests.testlib.netns import Netns
from tests.testlib.node import Node
from tests.testlib.patience import eventually

ZONES = ("cell.internal", "apps.internal")
BASE = Path("/run/cellnet-test")
USER = "cellnet-dns"
_numbers = itertools.count()


@dataclass
class DnsBed:
    """`containers` ask; `cell` is the host itself, `outside` a neighbour of it."""

    host: Host
    containers: Sequence[Node]
    cell: Node
    folder: HostsFolder
    settings: DnsmasqSettings
    process: "subprocess.Popen[bytes] | None" = None

    def publish(self, names: Mapping[str, tuple[str, ...]]) -> None:
        """Have these names and no others, by address."""
        wanted = {IPv4Address(address): each for address, each in names.items()}
        blocks = {block_of(address) for address in (*wanted, *self.folder.read())}
        assert not list(self.folder.write(sorted(blocks), wanted))

    def start(self) -> None:
        """Start dnsmasq; it answers when this returns."""
        found = pwd.getpwnam(USER)
        argv = command(self.settings, binary=dnsmasq_program(), user=USER, uid=found.pw_uid, gid=found.pw_gid)
        self.process = self.host.netns.start(*argv)
        eventually(self.answers)

    def answers(self) -> bool:
        """Whether the host itself is answered."""
        assert self.process is not None
        assert self.process.poll() is None, "dnsmasq has ended"
        try:
            return ask_once(self.cell, "nothing.cell.internal").code is Code.NXDOMAIN
        except OSError:
            return False

    def stop(self) -> None:
        """End dnsmasq."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None


@contextmanager
def dns_bed(
    netns: Callable[[str], Netns], *, containers: int = 2, upstreams: Sequence[Upstream] = (), firewall: Firewall | None = None
) -> Iterator[DnsBed]:
    """With the rules of a cell, no names, and dnsmasq running."""
    host = make_host(netns, containers=containers, firewall=firewall)
    resolver = Resolver(RESOLVER, ZONES)
    with folders.short_lived(BASE, name=f"dns-{os.getpid()}-{next(_numbers)}") as root:
        folder = HostsFolder(root / "names")
        folder.read()
        settings = DnsmasqSettings(resolver, OVERLAY, SUBNET.num_addresses, folder.path, upstreams=tuple(upstreams))
        workloads = [host.workload(number) for number in range(containers)]
        assert not host.become(replace(host.with_workloads(*workloads), resolver=resolver)).failures
        nodes = [Node(host.containers[number].path, address=each.address) for number, each in enumerate(workloads)]
        made = DnsBed(host, nodes, Node(host.netns.path, address=RESOLVER), folder, settings)
        try:
            made.start()
            yield made
        finally:
            made.stop()
            for each in (*nodes, made.cell):
                each.close()
            host.kernel.close()
