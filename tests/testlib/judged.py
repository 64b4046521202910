"""What the judge of live flows says of one of them."""

from collections.abc import Mapping
from ipaddress import IPv4Address

from dataplane.flows.conntrack import Flow
from dataplane.flows.judge import NONE_DEPARTED, HostView, Own, forbidden, no_addresses
from dataplane.state import HostState


def is_forbidden(
    flow: Flow, state: HostState, *, departed: Mapping[IPv4Address, int] = NONE_DEPARTED, own: Own = no_addresses
) -> bool:
    """Whether `state` does not permit it."""
    return bool(forbidden((flow,), state, departed=departed, view=HostView(own=own)))
