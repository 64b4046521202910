"""What the overlay stands on: the underlay's interface, address and MTU, which a host may change at any time.

Read at each look at the kernel. An underlay that has gone for a moment (a lease renewed, a cable) leaves all as it was: a
tunnel that comes and goes would cut what it carries.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from agent import log
from agent.config.config import Overlay
from agent.errors import HostRefused
from agent.model.status import Part, Problem, as_problems
from dataplane.netlink.underlay import DEFAULT_MTU, VXLAN_OVERHEAD, Underlay
from dataplane.state import Tunnel


@dataclass(frozen=True, slots=True)
class UnderlayFacts:
    """`mtu` is the containers'; without a `tunnel` there are no other cells."""

    mtu: int = DEFAULT_MTU - VXLAN_OVERHEAD
    tunnel: Tunnel | None = None


DEFAULT_UNDERLAY = UnderlayFacts()


class UnderlayMonitor(Part):
    """Follows the underlay. `shared`: whether there can be other cells. `address` is the host's there, as last seen."""

    def __init__(self, read: Callable[[], Awaitable[Underlay | None]], *, overlay: Overlay, shared: bool) -> None:
        self._read = read
        self._overlay = overlay
        self._shared = shared
        self._log = log.get("underlay")
        self.facts = UnderlayFacts(mtu=overlay.mtu or DEFAULT_UNDERLAY.mtu)
        self.address: IPv4Address | None = None
        self.problem: HostRefused | None = None

    def problems(self) -> tuple[Problem, ...]:
        """That a cell among others has no underlay."""
        return as_problems("overlay", self.problem)

    async def refresh(self) -> bool:
        """Whether anything is other than it was. Raises HostRefused where the kernel cannot be asked."""
        found = await self._read()
        self.problem = None if found is not None or not self._shared else _missing()
        if found is None:
            return False
        before, self.facts, self.address = self.facts, self._facts_of(found), found.address
        if before.tunnel is not None and before != self.facts:
            self._log.info("underlay_changed", interface=found.interface, address=str(found.address), mtu=self.facts.mtu)
        return before != self.facts

    def _facts_of(self, found: Underlay) -> UnderlayFacts:
        mtu = self._overlay.mtu or found.mtu - VXLAN_OVERHEAD
        if not self._shared:
            return UnderlayFacts(mtu)
        return UnderlayFacts(mtu, Tunnel(found.interface, found.address, vni=self._overlay.vni, port=self._overlay.port))


def _missing() -> HostRefused:
    return HostRefused(
        "this host has no underlay: no default route with an address, or not what agent.yaml names",
        hint="see `ip route` and `ip address`; underlay.address and underlay.interface name it",
    )
