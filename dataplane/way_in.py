"""What may come in from outside to a container: rights as the judge of live flows asks for them. The counterpart of
`way_out.py`; pure."""

from ipaddress import IPv4Address
from typing import Final

from dataplane.memo import Memo
from dataplane.state import INBOUND_PORT, HostState, OutsideRight, Workload
from dataplane.way_out import WaysOut

_ways: Final[Memo[frozenset[OutsideRight], WaysOut]] = Memo(WaysOut)


def is_open(state: HostState, workload: Workload, *, source: IPv4Address, protocol: str, port: int) -> bool:
    """Whether `source`, which is outside, may begin a flow to a published port of a container; `port` is the container's."""
    if state.mutual_tls.served and (protocol, port) == ("tcp", INBOUND_PORT):
        return False
    return state.ingress_allowed or _ways.of(workload.ingress).lead_to(source, protocol=protocol, port=port)
