"""Does an attachment's owner still live? The edge of agent/model/owner.py: what /proc and the file system say now.

A namespace's path is looked up below the root of whoever named it, kept open since the attach, so that a path that only
that mount namespace has is found there; after a restart of the agent only the agent's own root is left to ask.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from agent.errors import HostRefused
from agent.model.attachment import Attachment
from agent.model.owner import NamespaceOwner, Owner, ProcessOwner
from agent.store.ledger import Ledger
from host import process
from host.namespace import NamespaceId


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

    def of(self, namespace: int, *, path: Path, pid: int | None) -> Owner | None:
        """The owner that a request names: a process, or the namespace that is open at `namespace`. None: no such process."""
        if pid is None:
            identity = NamespaceId.of(namespace)
            return NamespaceOwner(path=path, device=identity.device, inode=identity.inode, boot_id=self._boot)
        started = process.start_time(pid)
        return None if started is None else ProcessOwner(pid=pid, started=started, boot_id=self._boot)

    def keep_root(self, name: str, *, pid: int) -> None:
        """Remember the root directory of the process that names a namespace's path."""
        self.forget(name)
        try:
            self._roots[name] = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return  # it has ended already: the agent's own root has to do

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
        return owner.boot_id == self._boot and inhabited(NamespaceId(owner.device, owner.inode))

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


def inhabited(namespace: NamespaceId) -> bool:
    """Whether any process is in a network namespace."""
    with os.scandir("/proc") as entries:
        pids = [entry.name for entry in entries if entry.name.isdigit()]
    return any(identity_at(Path(f"/proc/{pid}/ns/net")) == (namespace.device, namespace.inode) for pid in pids)
