"""Attachments end with their owners: a process's end is noticed at once through its pidfd, all else by looking again."""

import asyncio
import os
from contextlib import suppress

from agent import log
from agent.attach.transaction import Attaching
from agent.errors import RAISED
from agent.model.owner import ProcessOwner
from agent.store.ledger import Ledger


class Ends:
    """Sets `event` when one of the watched processes ends."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self._descriptors: dict[ProcessOwner, int] = {}
        self._told: set[ProcessOwner] = set()  # ended already; the timer sees to those that cannot be detached yet

    def watch(self, owners: set[ProcessOwner]) -> None:
        """Watch exactly these from now on."""
        for gone in self._descriptors.keys() - owners:
            self._close(gone)
        self._told &= owners
        for owner in owners - self._descriptors.keys() - self._told:
            try:
                descriptor = os.pidfd_open(owner.pid)
            except OSError:
                self._tell(owner)
                continue
            self._descriptors[owner] = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._ended, owner)

    def close(self) -> None:
        """Watch nobody."""
        self.watch(set())

    def _ended(self, owner: ProcessOwner) -> None:
        self._close(owner)
        self._tell(owner)

    def _tell(self, owner: ProcessOwner) -> None:
        self._told.add(owner)
        self._event.set()

    def _close(self, owner: ProcessOwner) -> None:
        descriptor = self._descriptors.pop(owner)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def watch_owners(attaching: Attaching, ledger: Ledger, *, every: float) -> None:
    """Sweep for ever: when an owner process ends, and every `every` seconds for namespaces and for what failed before."""
    ended = asyncio.Event()
    ends = Ends(ended)
    said = ""
    try:
        while True:
            try:
                await attaching.sweep()
                ends.watch({held.owner for held in ledger.all() if isinstance(held.owner, ProcessOwner)})
                said = ""
            except (*RAISED, OSError) as error:  # a locked ledger, no descriptor left: the next round may do better
                if said != str(error):
                    log.get("owners").error("not_swept", what=str(error))
                said = str(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await ended.wait()
            ended.clear()
    finally:
        ends.close()
