"""What a change would cut: connections that are permitted now and would not be then. Nothing is cut."""

from dataplane.flows import conntrack, streams
from dataplane.flows.cut import Forbidden
from dataplane.flows.judge import NO_VIEW, HostView, forbidden, forbidden_streams, tunnels
from dataplane.state import HostState
from host.netlink.socket import NetlinkSocket


def foreseen(now: HostState, then: HostState, *, link: NetlinkSocket, view: HostView = NO_VIEW) -> Forbidden:
    """Those that are open. Both states have the same containers. Raises HostRefused."""
    flows = [each for each in conntrack.flows(link) if not each.is_over]
    ways_in = tunnels(flows, now)
    ending = streams.streams_to([now.workloads[to] for to in sorted({to for _, to in ways_in})], envoy=view.envoy)
    cut_anyway = frozenset(forbidden(flows, now, view=view))
    cut_streams = forbidden_streams(ending, now, known=ways_in)
    return Forbidden(
        tuple(each for each in forbidden(flows, then, view=view) if each not in cut_anyway),
        {each: tag for each, tag in forbidden_streams(ending, then, known=ways_in).items() if each not in cut_streams},
    )
