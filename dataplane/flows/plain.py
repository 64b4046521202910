"""TCP connections between containers that are in no tunnel: what a cell would cut if it let none pass plain. Pure.

Both cells of a connection see it: the one by its container that is called, the other by its container that calls.
"""

import socket
from collections.abc import Iterable
from dataclasses import replace

from dataplane.flows.conntrack import Flow
from dataplane.flows.judge import forbidden
from dataplane.state import HostState


def plain_flows(flows: Iterable[Flow], state: HostState) -> tuple[Flow, ...]:
    """Those of `flows` that are open and permitted, and would not be if there were tunnels alone.

    Connections to the port that terminates TLS are none of them.
    """
    open_ = [flow for flow in flows if flow.protocol == socket.IPPROTO_TCP and not flow.is_over]
    cut = frozenset(forbidden(open_, state))
    tunnels_alone = replace(state, mutual_tls=replace(state.mutual_tls, served=True, plain=False))
    return tuple(flow for flow in forbidden(open_, tunnels_alone) if flow not in cut)
