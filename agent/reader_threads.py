"""Threads for what readers ask: where that takes long, they wait for each other, and hold up nothing that the agent does.

asyncio.to_thread has few threads, which attaches, names and Envoy's listeners need; a request that was given up goes on in its.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

MOST: Final = 4

Found = TypeVar("Found")
_THREADS: Final = ThreadPoolExecutor(MOST, thread_name_prefix="readers")


async def in_reader_thread(work: Callable[[], Found]) -> Found:
    """What `work` returns, or raises, in one of the readers' threads."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)
