"""The underlay may change at any time, and go for a moment."""

from ipaddress import IPv4Address

from agent.cells.underlay import Ground, Grounding
from agent.config.config import Overlay
from dataplane.netlink.underlay import Underlay
from dataplane.state import Tunnel

FIRST, SECOND = Underlay("eth0", IPv4Address("10.77.0.1"), 1500), Underlay("eth0", IPv4Address("10.77.0.9"), 1400)


class Host:
    def __init__(self, found: Underlay | None) -> None:
        self.found = found

    def grounding(self, *, shared: bool = True, **overlay: int) -> Grounding:
        return Grounding(self.read, overlay=Overlay(**overlay), shared=shared)

    async def read(self) -> Underlay | None:
        return self.found


async def test_the_tunnel_and_the_mtu_follow_the_underlay() -> None:
    host = Host(FIRST)
    ground = host.grounding(vni=7, port=8472)
    assert await ground.look()
    assert ground.now == Ground(1450, Tunnel("eth0", FIRST.address, 7, 8472))
    assert not await ground.look()
    host.found = SECOND
    assert await ground.look()
    assert ground.now == Ground(1350, Tunnel("eth0", SECOND.address, 7, 8472))


async def test_a_moment_without_an_underlay_changes_nothing_and_is_told() -> None:
    host = Host(FIRST)
    ground = host.grounding()
    await ground.look()
    before, host.found = ground.now, None
    assert not await ground.look()
    assert (ground.now, ground.address) == (before, FIRST.address)
    assert ground.problem is not None
    host.found = FIRST
    assert not await ground.look()
    assert ground.problem is None


async def test_an_mtu_that_is_configured_holds() -> None:
    ground = Host(FIRST).grounding(mtu=1200)
    assert ground.now.mtu == 1200
    await ground.look()
    assert ground.now.mtu == 1200


async def test_a_cell_with_a_store_of_its_own_has_no_tunnel_and_needs_no_underlay() -> None:
    host = Host(SECOND)
    ground = host.grounding(shared=False)
    assert await ground.look()
    assert ground.now == Ground(1350, None)
    host.found = None
    await ground.look()
    assert ground.problem is None
