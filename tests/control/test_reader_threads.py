"""What readers ask for, however long it takes, holds up nothing that the agent does in threads of its own."""

import asyncio
import threading
from pathlib import Path

from agent import control
from agent.reader_threads import in_reader_thread

ASKED = 100  # more than asyncio.to_thread has threads


async def test_readers_wait_for_each_other_and_the_agent_for_none_of_them() -> None:
    end = threading.Event()
    asked = [asyncio.create_task(in_reader_thread(end.wait)) for _ in range(ASKED)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            assert await asyncio.to_thread(lambda: "done") == "done"
        assert not any(each.done() for each in asked)
    finally:
        end.set()
    assert await asyncio.gather(*asked) == [True] * ASKED


def test_no_request_is_worked_on_in_the_threads_that_attaches_need() -> None:
    modules = list(Path(control.__file__).parent.rglob("*.py"))
    assert len(modules) > 10
    assert [each.name for each in modules if "to_thread" in each.read_text()] == []
