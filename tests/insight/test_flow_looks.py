"""Looks at all flows take a share of the time, whoever asks for them and however often."""

import asyncio
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from unittest.mock import create_autospec

from agent.insight.flows.looks import SHARE, FlowLook, FlowLooks
from agent.insight.flows.named import FlowPlace, NamedFlows

TAKES = 0.1  # seconds
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
NETWORK = IPv4Network((IPv4Address("10.255.0.0"), 16))


class LongLooks(FlowLooks):
    """Each takes some time."""

    def __init__(self) -> None:
        place, named = FlowPlace(NETWORK, NETWORK, lambda: None), create_autospec(NamedFlows, instance=True)
        super().__init__(named, place, now=lambda: NOON, elapsed=asyncio.get_running_loop().time)
        self.taken = 0

    async def _look(self) -> FlowLook:
        self.taken += 1
        await asyncio.sleep(TAKES)
        return FlowLook(NOON, (), whole=True, counts_octets=True, keeps_time=True)


async def test_a_new_look_is_taken_for_each_who_needs_one_but_never_without_a_rest_between() -> None:
    looks, time = LongLooks(), asyncio.get_running_loop().time
    began = time()
    await looks.look(new=True)
    await looks.look()
    assert looks.taken == 1
    for _ in range(2):
        await looks.look(new=True)
    assert looks.taken == 3
    assert time() - began >= 2 * (SHARE + 1) * TAKES
