"""Published ports: what calls a port of the host is led to a container's, with the caller's own address.

Only what is for an address of the host itself, and never for 127.0.0.0/8: the host's own calls by these stay its own. Ports are
found in two steps, so that the way is short among thousands; established packets never come here. What comes in is judged
afterwards (`ingress.py`), what a container sends by its tag (`rights.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from dataplane.firewall.matches import CONTAINERS
from dataplane.state import HostState, PublishedPort, Workload
from dataplane.tables import GATEWAY

CHAIN: Final = "CELLNET-PUBLISHED"
DETOURS: Final = "CELLNET-DETOURS"
LEAST: Final = 16  # rules of one part
LOOPBACK: Final = "127.0.0.0/8"


def is_any(state: HostState) -> bool:
    """Whether any port is published."""
    return next((True for each in state.workloads.values() if each.publish), False)


def led_inside(state: HostState) -> Iterator[str]:
    """Of what arrives, and of what the host itself sends: to its own addresses."""
    if is_any(state):
        yield f"! -d {state.overlay} -m addrtype --dst-type LOCAL -j {CHAIN}"


def translated(state: HostState) -> Iterator[str]:
    """Of what leaves for a container: what has been led there."""
    if is_any(state):
        yield f"-o {CONTAINERS} -m conntrack --ctstate DNAT -g {DETOURS}"


def published_chains(state: HostState) -> dict[str, Iterable[str]]:
    """The chains that these lead to."""
    if not is_any(state):
        return {}
    found = sorted((_key(port), _rule(workload, port)) for workload in state.workloads.values() for port in workload.publish)
    parts = list(_parts(found))
    if len(parts) <= 1:
        return {CHAIN: (f"-d {LOOPBACK} -j RETURN", *(rule for _, rule in found)), DETOURS: _detours(state)}
    return {
        # back here where none fits: ranges of several addresses may reach into the next part
        CHAIN: (f"-d {LOOPBACK} -j RETURN", *(f"{_span(part)} -j {CHAIN}-{number}" for number, part in enumerate(parts))),
        **{f"{CHAIN}-{number}": tuple(rule for _, rule in part) for number, part in enumerate(parts)},
        DETOURS: _detours(state),
    }


Key = tuple[str, int, int, str]
"""Protocol, first and last port, address: the order of rules."""
Rules = Sequence[tuple[Key, str]]


def _key(port: PublishedPort) -> Key:
    return port.protocol, port.first, port.last, str(port.address or "")


def _parts(found: Rules) -> Iterator[Rules]:
    """Those of one protocol, in parts about as long as there are parts."""
    size = LEAST
    while len(found) > 2 * size * size:
        size *= 2
    for protocol in ("tcp", "udp"):
        those = [each for each in found if each[0][0] == protocol]
        yield from (those[start : start + size] for start in range(0, len(those), size))


def _span(part: Rules) -> str:
    protocol, first = part[0][0][:2]
    return f"-p {protocol} -m {protocol} --dport {_range(first, max(last for (_, _, last, _), _ in part))}"


def _rule(workload: Workload, port: PublishedPort) -> str:
    dialled = "" if port.address is None else f"-d {port.address}/32 "
    match = f"{dialled}-p {port.protocol} -m {port.protocol} --dport {_range(port.first, port.last)}"
    return f"{match} -j DNAT --to-destination {workload.address}{_ports(port)}"


def _ports(port: PublishedPort) -> str:
    """A range keeps its order: of ports that are the same inside nothing is said, others are counted from the first."""
    if port.first == port.last:
        return f":{port.to}"
    return "" if port.to == port.first else f":{port.to}-{port.to + port.last - port.first}/{port.first}"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}:{last}"


def _detours(state: HostState) -> Iterator[str]:
    """An app sees its caller, also where the host masquerades everything. One that calls itself by a published port would see
    itself, and answer itself: it gets the gateway's address.
    """
    yield f"-s {LOOPBACK} -j RETURN"  # another program's way from the host's 127.0.0.1
    for address in sorted(each.address for each in state.workloads.values() if each.publish):
        yield f"-s {address}/32 -d {address}/32 -j SNAT --to-source {GATEWAY}"
    yield f"-s {state.overlay} -j RETURN"  # another program's detour, by which a container reaches itself
    yield "-j ACCEPT"
