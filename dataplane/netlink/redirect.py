"""The way of a container's own TCP into Envoy's tunnels, and out of them: nftables in its namespace, in the calling thread's.

Table `cellnet` redirects. NAT is decided at a connection's first packet, so no live connection changes with its rules; but
those that it has redirected live only as long as the table does. Only what opens a connection is redirected: with the first
table the kernel begins to follow connections, and takes any packet of those from before for a first one.

Table `cellnet-only-tunnels` lets no other TCP leave for the overlay. Where the redirect, Envoy's way back or `lo` is taken away
under a live stream, its bytes would go out as they are, and be refused only by the host. It is a table of its own so that it
outlives the other. What it drops the kernel sends again, so a stream lives on after a repair. Resets pass: they carry nothing,
and whoever is cut off must hear of it.

Table `cellnet-envoy` keeps what Envoy opens to an app, with a caller's address and a port that it chooses, apart from what that
caller opens itself: where both have chosen one port, the two would be one connection to the kernel, and the later would come to
nothing, or end the earlier. In a zone of its own conntrack knows two, and gives one of them another port. Such a one lives only
as long as there is a table for NAT, too: so these two stay when nothing is redirected any more, without a rule for that.

Root inside can remove all of them; the destination's host refuses what comes in no tunnel, whatever is here.
"""

import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from dataplane.netlink import nftables
from dataplane.netlink.expressions import (
    ACCEPT,
    DROP,
    Rule,
    followed_apart,
    from_no_port,
    marked,
    no_reset,
    of_protocol,
    opening,
    out_of,
    redirected,
    to_addresses,
    to_no_port,
    verdict,
)
from dataplane.netlink.links import LOOPBACK
from dataplane.netlink.nftables import HookedTable, HookPoint
from dataplane.state import OUTBOUND_PORT
from dataplane.tables import EITHER_MARK, TUNNEL_MARK, Redirect

REDIRECT, ENVOY, ONLY_TUNNELS = NAMES = "cellnet", "cellnet-envoy", "cellnet-only-tunnels"
# priorities: ahead of conntrack, where nat tables have theirs, and after all of them
BEFORE_CONNTRACK, BEFORE_DESTINATION_NAT, AFTER_SOURCE_NAT = -300, -100, 300
ZONE = TUNNEL_MARK
LOOPBACK_ADDRESSES = IPv4Network("127.0.0.0/8")


def put(redirect: Redirect | None) -> None:
    """Make the tables as `redirect` says; None: redirect nothing. Raises HostRefused."""
    if redirect is not None or not _is_untouched():
        wanted, absent = _tables(redirect)
        nftables.put(wanted, absent=absent)


def stands(redirect: Redirect | None) -> bool:
    """Whether all of it is there, and nothing else in its tables."""
    wanted, absent = _tables(redirect)
    return (redirect is None and _is_untouched()) or nftables.stand(wanted, absent=absent)


def remove() -> None:
    """Leave the namespace as if none of this had been there; what NAT has changed of a connection ends. Raises HostRefused."""
    nftables.put((), absent=NAMES)


def _is_untouched() -> bool:
    return nftables.stand((), absent=NAMES)


@lru_cache(maxsize=nftables.FEW)
def _tables(redirect: Redirect | None) -> tuple[tuple[HookedTable, ...], tuple[str, ...]]:
    """Those that should be there, and the names of those that should not."""
    rules = () if redirect is None else tuple(_redirecting(redirect))
    made = HookedTable(REDIRECT, "nat", HookPoint.OUTPUT, BEFORE_DESTINATION_NAT, rules)
    apart = (*marked(TUNNEL_MARK, mask=EITHER_MARK), *followed_apart(ZONE))
    envoy = HookedTable(ENVOY, "filter", HookPoint.OUTPUT, BEFORE_CONNTRACK, (apart,))
    if redirect is None or not redirect.only_tunnels:
        return (made, envoy), (ONLY_TUNNELS,)
    drops = HookedTable(ONLY_TUNNELS, "filter", HookPoint.POSTROUTING, AFTER_SOURCE_NAT, tuple(_dropping(redirect)))
    return (made, envoy, drops), ()


def _redirecting(redirect: Redirect) -> Iterable[Rule]:
    yield from _exempting(redirect)
    to_others = (*of_protocol(socket.IPPROTO_TCP), *out_of(LOOPBACK, other=True), *_to(redirect.overlay))
    yield (*to_others, *to_no_port(*redirect.direct_ports), *opening(), *redirected(OUTBOUND_PORT))


def _dropping(redirect: Redirect) -> Iterable[Rule]:
    yield (*out_of(LOOPBACK), *verdict(ACCEPT))
    yield from _exempting(redirect)
    ports = redirect.direct_ports
    others = (*of_protocol(socket.IPPROTO_TCP), *_to(redirect.overlay), *to_no_port(*ports), *from_no_port(*ports))
    yield (*others, *no_reset(), *verdict(DROP))
    # with `lo` down the default route would take what is redirected
    yield (*of_protocol(socket.IPPROTO_TCP), *_to(LOOPBACK_ADDRESSES), *no_reset(), *verdict(DROP))


def _exempting(redirect: Redirect) -> Iterable[Rule]:
    return ((*to_addresses(first, last), *verdict(ACCEPT)) for first, last in _ranges(redirect.exempt))


def _to(network: IPv4Network) -> Rule:
    return to_addresses(network.network_address, network.broadcast_address)


def _ranges(networks: Iterable[IPv4Network]) -> list[tuple[IPv4Address, IPv4Address]]:
    """First and last of all addresses of these, as few as will do: each costs every new connection a comparison."""
    ranges: list[tuple[IPv4Address, IPv4Address]] = []
    for network in sorted(networks):
        first, last = network.network_address, network.broadcast_address
        if ranges and int(first) <= int(ranges[-1][1]) + 1:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], last))
        else:
            ranges.append((first, last))
    return ranges
