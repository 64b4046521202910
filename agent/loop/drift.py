"""Looks at the kernel beside the loop: every 10 s, and soon after another program has changed something."""

import asyncio
from contextlib import suppress

from agent.cells.underlay import UnderlayMonitor
from agent.errors import HostRefused
from agent.loop.loop import Reconciler
from agent.pacing import wait_for_event
from dataplane.netlink.monitor import Monitor

PERIOD = 10.0  # seconds between looks when nothing is heard
GATHER = 0.05  # a change seldom comes alone
SPACING = 1.0  # at least between two looks: root in a container can make its link flap
TRIES = 20  # under constant change of our own a look is always out of date; the next period comes


async def run(reconciler: Reconciler, monitor: Monitor, *, underlay: UnderlayMonitor) -> None:
    """Runs until cancelled."""
    clock = asyncio.get_running_loop().time
    due = due_inside = clock() + PERIOD
    while True:
        heard = await _heard(reconciler, monitor, within=min(due, due_inside) - clock())
        if not heard and clock() < min(due, due_inside):
            continue  # our own doing: that must not put off what is due
        # what happens inside of containers is not heard of; with tunnels a look there takes 0.25 ms for each of them
        inside = clock() >= due_inside
        if await _moved(underlay):
            reconciler.kick()
        for _ in range(TRIES):
            if await reconciler.look(inside=inside):
                break
            await asyncio.sleep(GATHER)
        due = clock() + PERIOD
        due_inside = due if inside else due_inside
        await asyncio.sleep(SPACING)


async def _moved(underlay: UnderlayMonitor) -> bool:
    """Whether the underlay is other than before. What keeps it from being read, the look meets and reports too."""
    with suppress(HostRefused):
        return await underlay.refresh()
    return False


async def _heard(reconciler: Reconciler, monitor: Monitor, *, within: float) -> bool:
    """Whether something was heard within so many seconds that was not our own doing."""
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    for descriptor in monitor.descriptors:
        loop.add_reader(descriptor, heard.set)
    try:
        await wait_for_event(heard, within=within)
    finally:
        for descriptor in monitor.descriptors:
            loop.remove_reader(descriptor)
    if heard.is_set():
        await asyncio.sleep(GATHER)
        while not reconciler.at_rest.is_set():  # what a turn has caused it drains itself, at its end
            await reconciler.at_rest.wait()
    return monitor.drain()
