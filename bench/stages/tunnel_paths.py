"""Paths from a container of one cell to a container of another, alike in everything but the rules of the two hosts.

As in `paths.py` the dataplane's own code makes all of them, without agents. The hosts are joined by a cable; all paths have the
same tunnel, and what is not ours has none of our rules on either side. Of a firewall's ten rules two are for the tunnel's port.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bench.stages.paths import CLIENT_TAG, MTU, OVERLAY, Made, Rules, Setting, become, crowd, write, written
from dataplane.state import HostState, Tunnel
from host import namespace
from lab.segment import ip

UNDERLAY = IPv4Network("10.77.0.0/16")
FROM, TO = 2, 1  # the cells' numbers
VNI, PORT = 1, 4789
PEERS = 250  # where there are many rules there are many cells


@dataclass(frozen=True, slots=True)
class Side:
    """One cell of a path, and its container that is the path's end."""

    host: Path
    number: int
    container: IPv4Address
    state: HostState

    @property
    def pin(self) -> Path:
        """The end's namespace."""
        return self.state.workloads[self.container].pin


def make(setting: Setting, folder: Path) -> Made:
    """The path with its rules; its namespaces are pinned in `folder`, and go with it. Raises HostRefused."""
    source, target = sides(setting, folder)
    for side in (source, target):
        side.pin.parent.mkdir(parents=True)
        namespace.create(side.host)
    ip(source.host, f"link add eth0 type veth peer name eth0 netns {target.host}")
    for side in (source, target):
        ip(side.host, f"addr add {_underlay(side.number)}/{UNDERLAY.prefixlen} dev eth0", "link set eth0 up")
        become(side.host, setting, side.state)
    for side, other in ((source, target), (target, source)):
        write(side.host, setting, by_hand(setting, source, target, tunnelled_from=_underlay(other.number)))
    return Made(source.pin, target.pin, (source.host, target.host), target.container)


def by_hand(setting: Setting, source: Side, target: Side, *, tunnelled_from: IPv4Address) -> str:
    """A host's rules that are not ours. A firewall for forwarded packets has to guard the tunnel's port as well."""
    outer = f"-p udp -m udp --dport {PORT} -j"
    guard = (f"-s {tunnelled_from}/32 {outer} ACCEPT", f"{outer} DROP")
    return written(setting, target.container, client=source.container, to_host=guard)


def sides(setting: Setting, folder: Path) -> tuple[Side, Side]:
    """The client's cell and the server's. Both have as many rules as the setting says."""
    count = setting.count if setting.rules is Rules.OURS else 1
    source, target = (_side(setting, number, count, folder / str(number)) for number in (FROM, TO))
    workloads = source.state.workloads
    client = replace(workloads[source.container], tag=CLIENT_TAG)
    state = replace(source.state, workloads={**workloads, source.container: client})
    return replace(source, state=state), target


def _side(setting: Setting, number: int, count: int, folder: Path) -> Side:
    subnet = _subnet(number)
    last, workloads = crowd(subnet, count, folder=folder, ours=setting.rules is Rules.OURS)
    others = (FROM, TO) if len(workloads) == 1 else range(1, 2 + PEERS)
    peers = {_subnet(each): _underlay(each) for each in others if each != number}
    tunnel = Tunnel(interface="eth0", address=_underlay(number), vni=VNI, port=PORT)
    state = HostState(overlay=OVERLAY, subnet=subnet, mtu=MTU, workloads=workloads, tunnel=tunnel, peers=peers)
    return Side(folder / "host", number, last, state)


def _subnet(number: int) -> IPv4Network:
    return IPv4Network((OVERLAY.network_address + number * 256, 24))


def _underlay(number: int) -> IPv4Address:
    return UNDERLAY[number]
