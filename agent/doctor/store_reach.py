"""How the store answers, and the clock by which certificates are judged that other cells issue."""

import asyncio
import ctypes
import statistics
import time
from typing import Final

from agent.config.config import Config
from agent.doctor.checks import Finding
from agent.model.status import Problem

SLOW: Final = 0.1  # seconds; what a change through etcd may take until all cells enforce it
QUESTIONS: Final = 5
UNSYNCHRONIZED: Final = 5  # TIME_ERROR, adjtimex's answer


def etcd(config: Config, *, slow: float = SLOW) -> Finding:
    """The time of one question, the middle of some. Raises Unavailable, HostRefused."""
    if config.store is None:
        return Finding(f"sqlite: {config.paths.database}")
    seconds = asyncio.run(_asked(config))
    about = f"{config.store} answers in {seconds * 1000:.1f} ms"
    if seconds < slow:
        return Finding(about)
    what = f"{config.store} takes {seconds * 1000:.0f} ms for an answer: changes of other cells are late"
    hint = "etcdctl endpoint status, and ping its hosts: it wants a disk of its own and a network without detours"
    return Finding(about, (Problem("store", what, hint),))


async def _asked(config: Config) -> float:
    from agent.store.etcd.client import EtcdClient
    from agent.store.etcd.keys import Keys

    assert config.store is not None
    client = EtcdClient(config.store)
    try:
        taken = []
        for _ in range(QUESTIONS + 1):  # the first one connects
            began = time.monotonic()
            await client.read(Keys(config.store.prefix).generation)
            taken.append(time.monotonic() - began)
        return statistics.median(taken[1:])
    finally:
        await client.close()


def clock_state() -> int:
    """What the kernel says of its clock: adjtimex(2), which changes nothing here."""
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))


def clock(config: Config, *, state: int) -> Finding:
    """Whether a clock that other cells' certificates are judged by follows the time."""
    follows = state != UNSYNCHRONIZED
    about = "follows the time (NTP)" if follows else "follows no time server"
    if follows or config.store is None:
        return Finding(about)
    what = "this host's clock follows no time server: certificates of other cells will seem to have ended, or not to have begun"
    return Finding(about, (Problem("cell", what, "timedatectl set-ntp true (apt-get install systemd-timesyncd, or chrony)"),))
