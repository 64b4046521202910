"""The underlay may change at any time, and go for a moment."""

from ipaddress import IPv4Address

from agent.cells.underlay import UnderlayFacts, UnderlayMonitor
from agent.config.config import Overlay
from dataplane.netlink.underlay import Underlay
from dataplane.state import Tunnel

FIRST, SECOND = Underlay("eth0", IPv4Address("10.77.0.1"), 1500), Underlay("eth0", IPv4Address("10.77.0.9"), 1400)


class Host:
    def __init__(self, found: Underlay | None) -> None:
        self.found = found

    def underlay(self, overlay: Overlay = Overlay(), *, shared: bool = True) -> UnderlayMonitor:  # noqa: B008 -- frozen
        return UnderlayMonitor(self.read, overlay=overlay, shared=shared)

    async def read(self) -> Underlay | None:
        return self.found


async def test_the_tunnel_and_the_mtu_follow_the_underlay() -> None:
    host = Host(FIRST)
    underlay = host.underlay(Overlay(vni=7, port=8472))
    assert await underlay.refresh()
    assert underlay.facts == UnderlayFacts(1450, Tunnel("eth0", FIRST.address, 7, 8472))
    assert not await underlay.refresh()
    host.found = SECOND
    assert await underlay.refresh()
    assert underlay.facts == UnderlayFacts(1350, Tunnel("eth0", SECOND.address, 7, 8472))


async def test_a_moment_without_an_underlay_changes_nothing_and_is_reported() -> None:
    host = Host(FIRST)
    underlay = host.underlay()
    await underlay.refresh()
    before, host.found = underlay.facts, None
    assert not await underlay.refresh()
    assert (underlay.facts, underlay.address) == (before, FIRST.address)
    assert underlay.problem is not None
    host.found = FIRST
    assert not await underlay.refresh()
    assert underlay.problem is None


async def test_an_mtu_that_is_configured_holds() -> None:
    underlay = Host(FIRST).underlay(Overlay(mtu=1200))
    assert underlay.facts.mtu == 1200
    await underlay.refresh()
    assert underlay.facts.mtu == 1200


async def test_a_cell_with_a_store_of_its_own_has_no_tunnel_and_needs_no_underlay() -> None:
    host = Host(SECOND)
    underlay = host.underlay(shared=False)
    assert await underlay.refresh()
    assert underlay.facts == UnderlayFacts(1350, None)
    host.found = None
    await underlay.refresh()
    assert underlay.problem is None
