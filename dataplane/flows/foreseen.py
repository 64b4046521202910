"""What a change would cut: connections that are permitted now and would not be then. Nothing is cut."""

from dataplane.flows import conntrack, streams
from dataplane.flows.cut import Forbidden
from dataplane.flows.judge import Own, all_forbidden, forbidden_streams, no_addresses, tunnels
from dataplane.flows.streams import EnvoySockets, unknown_sockets
from dataplane.known_names import KnownNames
from dataplane.state import HostState
from host.netlink.socket import NetlinkSocket


def foreseen(
    now: HostState,
    then: HostState,
    *,
    link: NetlinkSocket,
    envoy: EnvoySockets = unknown_sockets,
    known: KnownNames | None = None,
    own: Own = no_addresses,
) -> Forbidden:
    """Those that are open. Both states have the same containers. Raises HostRefused."""
    flows = [each for each in conntrack.flows(link) if not each.is_over]
    ways_in = tunnels(flows, now)
    ending = streams.streams_to([now.workloads[to] for to in sorted({to for _, to in ways_in})], envoy=envoy)
    cut_anyway = frozenset(all_forbidden(flows, now, known=known, own=own))
    cut_streams = forbidden_streams(ending, now, known=ways_in)
    return Forbidden(
        tuple(each for each in all_forbidden(flows, then, known=known, own=own) if each not in cut_anyway),
        {each: tag for each, tag in forbidden_streams(ending, then, known=ways_in).items() if each not in cut_streams},
    )
