"""Answers that go on until the caller has enough: no time limit, no turn among others, and an end with the server's."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import web

Answer = TypeVar("Answer")


class LastingAnswers:
    """One per server."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    async def give(self, answering: Awaitable[Answer]) -> Answer:
        """Until it is over."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await answering
        finally:
            self._tasks.discard(task)

    async def end(self, _app: web.Application) -> None:
        """All of them: the server would wait for each otherwise."""
        for each in list(self._tasks):
            each.cancel()
