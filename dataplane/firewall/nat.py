"""Table nat: what containers send out of the overlay has the cell's own address out there."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from dataplane.state import HostState

PORTS: Final = "32768-60999"  # those that the kernel gives by itself


def nat_chains(state: HostState) -> Mapping[str, Iterable[str]]:
    """The rules of each chain by its name.

    None where nothing may leave: then the kernel need not look each packet up for translations.
    """
    return {"CELLNET-POSTROUTING": _postrouting(state)} if state.egress_allowed else {}


def _postrouting(state: HostState) -> Iterator[str]:
    leaving = f"-s {state.subnet} ! -d {state.overlay}"
    if state.tunnel:
        # answers to that port would be taken for tunnelled packets
        yield f"{leaving} -p udp -m udp --sport {state.tunnel.port} -j MASQUERADE --to-ports {PORTS}"
    yield f"{leaving} -j MASQUERADE"
