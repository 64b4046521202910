"""Paths from a container to a host outside of the overlay, alike in everything but the rules of its cell.

What goes out has the cell's address on all of them but the bare one, where the host outside knows the way back.
"""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network
from itertools import islice
from pathlib import Path
from typing import Final

from bench.loads.load import LAST_PORT, PORT
from bench.stages.paths import CLIENT, MTU, OVERLAY, SUBNET, TIMEOUT, Made, Rules, Setting, become, write
from dataplane.state import HostState, OutsideRight, Workload
from host import namespace
from host.process import run

UPLINK: Final = "up0"
CELL, SERVER = IPv4Interface("198.18.0.1/24"), IPv4Interface("198.18.0.2/24")
ELSEWHERE: Final = IPv4Network("198.19.0.0/16")  # what rules for others lead to
OF_AN_APP: Final = 40  # rules: 250 apps of them make 10,000
CLIENT_TAG: Final = 0xFFFF  # the last of those that have its lowest bits in common, which are the last of 16


def make(setting: Setting, folder: Path) -> Made:
    """The path with its rules; its namespaces are pinned in `folder`, and go with it. Raises HostRefused."""
    state = state_of(setting.count if setting.rules is Rules.OURS else 1, folder=folder)
    folder.mkdir()
    host, outside = folder / "host", folder / "outside"
    for each in (host, outside):
        namespace.create(each)
    become(host, setting, state)
    _connect(host, outside)
    write(host, setting, written(setting))
    return Made(state.workloads[CLIENT].pin, outside, (host,), SERVER.ip)


def state_of(rules: int, *, folder: Path) -> HostState:
    """A cell whose apps have `rules` rules to the outside together, 40 each; the client's is the last of its own."""
    shares = [min(OF_AN_APP, rules - done) for done in range(0, rules, OF_AN_APP)]
    rights = [_rights(share, first=OF_AN_APP * number, last=not number) for number, share in enumerate(shares)]
    apps = [
        Workload(str(SUBNET[3 + number]), SUBNET[3 + number], number + 1, folder / str(SUBNET[3 + number]), egress=each)
        for number, each in enumerate(rights[1:])
    ]
    client = Workload("client", CLIENT, CLIENT_TAG, folder / "client", egress=rights[0])
    empty = HostState(overlay=OVERLAY, subnet=SUBNET, mtu=MTU, workloads={})
    return replace(empty, workloads={each.address: each for each in (client, *apps)})


def _rights(count: int, *, first: int, last: bool) -> frozenset[OutsideRight]:
    """Of one app. None is like another's, so none shares a chain or a set; with `last` one is to the server."""
    others = islice(_elsewhere(first), count - last)
    found = {OutsideRight("tcp", 1 + number, 1 + number, (network,)) for number, network in enumerate(others)}
    return frozenset(found | ({OutsideRight("tcp", PORT, LAST_PORT, (SERVER.network,))} if last else set()))


def _elsewhere(first: int = 0) -> Iterator[IPv4Network]:
    return (IPv4Network((int(ELSEWHERE.network_address) + number, 32)) for number in range(first, ELSEWHERE.num_addresses))


def written(setting: Setting) -> str:
    """The rules of the other paths as iptables-restore reads them; empty where there are none."""
    established = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    others = islice(_elsewhere(), setting.count - 1)
    flat = [*(_accepts(each) for each in others), _accepts(SERVER.network)]
    match setting.rules:
        case Rules.TEN:
            rules = [established, "-m conntrack --ctstate INVALID -j DROP", *flat[2:]]
        case Rules.FLAT_ESTABLISHED:
            rules = [established, *flat]
        case _:
            return ""
    lines = ["*filter", ":FORWARD DROP [0:0]", *(f"-A FORWARD {rule}" for rule in rules), "COMMIT"]
    lines += ["*nat", f"-A POSTROUTING -s {SUBNET} -o {UPLINK} -j MASQUERADE", "COMMIT", ""]
    return "\n".join(lines)


def _accepts(network: IPv4Network) -> str:
    return f"-s {CLIENT}/32 -d {network} -p tcp -m tcp --dport {PORT}:{LAST_PORT} -j ACCEPT"


def _connect(host: Path, outside: Path) -> None:
    far = f"netns {outside} name {UPLINK}"
    _ip(host, f"link add {UPLINK} type veth peer {far}")
    for where, address in ((host, CELL), (outside, SERVER)):
        _ip(where, f"address add {address} dev {UPLINK}")
        _ip(where, f"link set {UPLINK} up")
    _ip(outside, f"route add {OVERLAY} via {CELL.ip}")


def _ip(where: Path, words: str) -> None:
    namespace.run_in(where, lambda: run(["ip", *words.split()], timeout=TIMEOUT))
