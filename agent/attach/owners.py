"""Attachments end with their owners. The edge of agent/model/owner.py: what /proc and the file system say now.

A process's end is seen at once through its pidfd; namespaces are looked at again and again. A namespace's path is looked up
below the root directory of the process that named it, kept open since the attach, so that a path that only that mount
namespace has is found there. After a restart of the agent only the agent's own root is left to look below.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

from agent import log
from agent.complaint import Complaints
from agent.errors import RAISED, HostRefused
from agent.model.attachment import Attachment
from agent.model.engine_container import EngineContainer
from agent.model.owner import NamespaceOwner, Owner, ProcessOwner
from agent.pacing import wait_for_event
from agent.store.ledger import Ledger
from host import process
from host.namespace import NamespaceId, inhabited_namespaces

PERIOD = 1.0  # seconds between sweeps when no process ends


class Owners:
    """The owners of this boot. `_roots` holds O_PATH descriptors by attachment name."""

    def __init__(self) -> None:
        self._boot = process.boot_id()
        self._roots: dict[str, int] = {}

    def strike_out_earlier_boots(self, ledger: Ledger, *, now: float) -> None:
        """Forget what was attached before the last boot: nothing of it is left on the host, so nothing is to be undone.

        Where that cannot be written, they are swept like others that have lost their owners.
        """
        with suppress(HostRefused):
            for held in ledger.all():
                if held.owner.boot_id != self._boot:
                    ledger.begin_detach(held.name)
                    ledger.finish_detach(held.name, now=now)

    def of(self, namespace: int, *, path: Path, pid: int | None, container: EngineContainer | None = None) -> Owner | None:
        """The owner that a request names: a process, or the namespace that is open at `namespace`. None: no such process."""
        if pid is None:
            identity = NamespaceId.of(namespace)
            return NamespaceOwner(path, identity.device, identity.inode, self._boot, container)
        started = process.start_time(pid)
        return None if started is None else ProcessOwner(pid=pid, started=started, boot_id=self._boot)

    def keep_root(self, name: str, root: int) -> None:
        """Remember the open root directory of the process that names a namespace's path."""
        self.forget(name)
        self._roots[name] = os.dup(root)

    def forget(self, name: str) -> None:
        """Give the root directory back."""
        descriptor = self._roots.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def live(self, attachment: Attachment) -> bool:
        """Whether the attachment's owner is still there."""
        owner = attachment.owner
        if isinstance(owner, ProcessOwner):
            return owner.lives(boot_id=self._boot, started=process.start_time(owner.pid))
        if any(owner.lives(boot_id=self._boot, found=found) for found in self._seen(attachment.name, owner)):
            return True
        return owner.boot_id == self._boot and NamespaceId(owner.device, owner.inode) in inhabited_namespaces()

    def _seen(self, name: str, owner: NamespaceOwner) -> Iterable[tuple[int, int] | None]:
        kept = self._roots.get(name)
        if kept is not None:
            yield identity_at(Path(f"/proc/self/fd/{kept}/{owner.path}"))
        yield identity_at(owner.path)


def identity_at(path: Path) -> tuple[int, int] | None:
    """(device, inode) at a path, None where nothing can be found."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class OwnerExits:
    """Sets `event` when one of the watched processes ends."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self._descriptors: dict[ProcessOwner, int] = {}
        self._ended: set[ProcessOwner] = set()  # reported once; the timer sees to those that cannot be detached yet

    def watch(self, owners: set[ProcessOwner]) -> None:
        """Watch exactly these from now on."""
        for gone in self._descriptors.keys() - owners:
            self._close(gone)
        self._ended &= owners
        for owner in owners - self._descriptors.keys() - self._ended:
            try:
                descriptor = os.pidfd_open(owner.pid)
            except OSError:
                self._report(owner)
                continue
            self._descriptors[owner] = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._on_exit, owner)

    def close(self) -> None:
        """Watch none any more."""
        self.watch(set())

    def _on_exit(self, owner: ProcessOwner) -> None:
        self._close(owner)
        self._report(owner)

    def _report(self, owner: ProcessOwner) -> None:
        self._ended.add(owner)
        self._event.set()

    def _close(self, owner: ProcessOwner) -> None:
        descriptor = self._descriptors.pop(owner)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


class OwnerWatch:
    """Calls `sweep` when an owner process in the ledger ends, and every second for namespaces and for what failed before."""

    def __init__(self, sweep: Callable[[], Awaitable[None]], ledger: Ledger) -> None:
        self._sweep = sweep
        self._ledger = ledger

    async def run(self) -> None:
        """Ends only by cancellation."""
        ended, complaints = asyncio.Event(), Complaints(log.get("owners"), failed="not_swept")
        exits = OwnerExits(ended)
        try:
            while True:
                try:
                    await self._sweep()
                    exits.watch({held.owner for held in self._ledger.all() if isinstance(held.owner, ProcessOwner)})
                    complaints.over()
                except RAISED as error:  # a locked ledger, for one: the next round may do better
                    complaints.about(error)
                except OSError as error:
                    complaints.about(HostRefused(f"cannot see which owners live: {error}", hint="see file descriptors left"))
                await wait_for_event(ended, within=PERIOD)
                ended.clear()
        finally:
            exits.close()
