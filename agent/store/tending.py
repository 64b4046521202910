"""Looks after the database beside the loop: what was refused is tried again, and damage is found before a restart finds it."""

import asyncio
from collections.abc import Callable

from agent import log
from agent.store.database import Database
from agent.store.file import inspected

TRY_AGAIN = 1.0  # seconds between attempts while something is wrong
INSPECT = 5.0  # seconds between looks at the whole file, past every cache


async def tend_for_ever(database: Database, on_mended: Callable[[], None]) -> None:
    """Runs until cancelled. `on_mended` is called when what was refused works again: it may have been given up meanwhile."""
    logger, clock, said = log.get("store"), asyncio.get_running_loop().time, ""
    due = clock() + INSPECT
    while True:
        await asyncio.sleep(TRY_AGAIN)
        if clock() >= due or database.damaged:
            database.note_inspected(await asyncio.to_thread(inspected, database.path))
            due = clock() + INSPECT
        ailing = database.trouble
        if ailing is None:
            said = ""
            continue
        if ailing.what != said:
            logger.error("database_ails", what=ailing.what, hint=ailing.hint)
        said = ailing.what
        if database.try_again() and database.trouble is None:
            logger.info("database_recovered")
            on_mended()
