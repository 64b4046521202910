"""A policy directory that is being watched, with a state for each change that was announced."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from agent.policy.directory.directory import watch
from agent.policy.directory.files import PolicyFiles

ONE = "policies: [{name: one, from: a/b/c, to: a/b/d, tcp: 80}]\n"
TWO = ONE.replace("name: one", "name: two")


class Followed:
    """A directory that is being watched; every state that was announced is kept."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "etc" / "policies.d"
        self.files = PolicyFiles(self.directory, last_good=folder / "state")
        self.seen: list[tuple[str, ...]] = []
        self.changed = asyncio.Event()

    def note(self) -> None:
        self.seen.append(self.names)
        self.changed.set()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(policy.name for policy in self.files.policies())

    def shows(self, names: tuple[str, ...]) -> bool:
        """Whether these policies are in force."""
        return self.names == names

    @property
    def file(self) -> Path:
        return self.directory / "a.yaml"

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for announced changes until it holds."""
        async with asyncio.timeout(20):
            while not true():
                self.changed.clear()
                await self.changed.wait()

    async def quiet(self) -> None:
        """Long enough for whatever is under way to come out."""
        await asyncio.sleep(0.3)


@contextlib.asynccontextmanager
async def following(
    folder: Path, *, clock: Callable[[], float] = time.monotonic, period: float = 30.0
) -> AsyncIterator[Followed]:
    """With a period that no test waits for: what is noticed is noticed by events."""
    followed = Followed(folder)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch(followed.files, followed.note, clock=clock, period=period))
        await asyncio.sleep(0.1)
        yield followed
        task.cancel()
