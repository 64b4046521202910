"""From outside to a container, by a port that is published: from where it may be called, found by its address.

Only what was translated on its way in comes here (`publish.py`, or another program's rule that leads to a container), and what
a container itself sends never does: it is judged by its tag, whatever it dialled. Apps of equal rights share a chain.
Established packets never come here. Pure, and cached for as long as the rights live.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from ipaddress import IPv4Address

from dataplane.firewall.blocks import by_block
from dataplane.firewall.matches import crowded, port_match
from dataplane.firewall.notes import WATCHED_IN, audited
from dataplane.firewall.outside_matches import REFUSE, OutsideEnd, RightsChain, Sets, rights_chain
from dataplane.memo import Memo
from dataplane.state import INBOUND_PORT, HostState, OutsideRight

CHAIN = "CELLNET-INGRESS"
AUDIT = "CELLNET-AUDIT-IN"


def ingress_chains(state: HostState, *, most_tls: int) -> dict[str, Iterable[str]]:
    """All of these chains; the first is CELLNET-INGRESS. One address outside may have `most_tls` connections open to Envoy."""
    before = tuple(_before(state, most_tls))
    if state.ingress_allowed:
        return {CHAIN: (*before, "-j ACCEPT")}
    apps = _apps(state)
    members = [
        (number, block, addresses) for number, (block, addresses) in enumerate(by_block(state.subnet, apps)) if addresses
    ]
    return {
        CHAIN: (*before, *(f"-d {block} -g {CHAIN}-{number:x}" for number, block, _ in members), REFUSE),
        **{
            f"{CHAIN}-{number:x}": (*(f"-d {each}/32 -g {apps[each].chain}" for each in addresses), REFUSE)
            for number, _, addresses in members
        },
        **{rights.chain: rights.rules for rights in apps.values()},
        **({AUDIT: (audited(WATCHED_IN), "-j ACCEPT")} if any(each.audited for each in apps.values()) else {}),
    }


def ingress_sets(state: HostState) -> Sets:
    """The sets that the rules name: networks, ascending and apart."""
    if state.ingress_allowed:
        return {}
    return {name: networks for rights in _apps(state).values() for name, networks in rights.sets.items()}


def _apps(state: HostState) -> Mapping[IPv4Address, RightsChain]:
    return {each.address: _rights.of(each.ingress) for each in state.workloads.values() if each.ingress}


def _before(state: HostState, most_tls: int) -> Iterator[str]:
    """What holds whatever is a right."""
    # an address of the overlay that nothing has comes from where the default route leads, so raw lets it pass
    yield f"-s {state.overlay} -j DROP"
    if state.mutual_tls.served:
        yield f"{port_match(INBOUND_PORT)} {REFUSE}"  # tunnels are between cells
    if any(each.to == state.tls_port for workload in state.workloads.values() for each in workload.publish):
        yield f"{crowded(state.tls_port, most_tls)} -j CELLNET-EXCESS-TLS"


_rights: Memo[frozenset[OutsideRight], RightsChain] = Memo(
    partial(rights_chain, end=OutsideEnd.SOURCE, kind="FROM", note=f"-g {AUDIT}")
)
