"""Each container's files below /run/cellnet, for engines to mount and to read: its resolv.conf, and its environment.

Both are written before an attach has its answer and go with the attachment. The environment names the apps that this one may
reach, so it is written again when policies or apps change, beside the loop: a revoke must not wait for it.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent import log
from agent.attach import netns_resolv_conf
from agent.attach.environments import Environments
from agent.complaint import Complaints
from agent.errors import RAISED, Conflict
from agent.model.attachment import Attachment, Phase
from agent.model.names import AppName
from agent.model.resolv_conf import ResolvConf
from agent.model.status import Part, Problem
from agent.pacing import Backoff
from agent.store.ledger import Ledger
from host.durable import PUBLIC, Write, make_folder, replace
from host.errors import refused_as

REST = 0.1  # seconds between two rounds: what changes meanwhile is one change


@dataclass(frozen=True, slots=True)
class ContainerPaths:
    """Of one attachment."""

    environment: Path
    resolv_conf: Path


class ContainerFiles(Part):
    """Those of this cell's attachments, in `folders`, and in `named` for `ip netns`; `leaving` are names on their way out."""

    def __init__(
        self,
        ledger: Ledger,
        environments: Environments,
        *,
        folders: ContainerPaths,
        resolv_conf: Callable[[AppName], ResolvConf],
        leaving: set[str],
        named: Path = netns_resolv_conf.FOLDER,
    ) -> None:
        self.environments = environments
        self._ledger = ledger
        self._folders = folders
        self._resolv_conf = resolv_conf
        self._leaving = leaving
        self._named = named
        self._changed = asyncio.Event()
        self._complaints = Complaints(log.get("attach"), failed="files_not_written", recovered="files_written")

    def problems(self) -> Iterator[Problem]:
        """Files that are not what they should be."""
        for name, error in self._complaints.standing.items():
            yield Problem("disk", f"the files of '{name}' are not up to date: {error.what}", error.hint)

    def resolv_conf(self, app: AppName) -> ResolvConf:
        """That of an instance of `app`."""
        return self._resolv_conf(app)

    def paths(self, name: str) -> ContainerPaths:
        """Where the files of an attachment are."""
        return ContainerPaths(self._folders.environment / name, self._folders.resolv_conf / name)

    async def write(self, held: Attachment) -> None:
        """Write what is not there as it should be. Raises HostRefused, what the store raises, and Conflict for a file in
        /etc/netns that is not ours.
        """
        environment, paths = await self.environments.of(held), self.paths(held.name)
        if self._is_present(held):  # it may have been detached meanwhile
            _put(paths.resolv_conf, self._resolv_conf(held.app).text)
            _put(paths.environment, environment.text)
            if held.netns_name:
                netns_resolv_conf.put(self._of_netns(held), self._resolv_conf(held.app).text, owner=held.name)

    def remove(self, held: Attachment) -> None:
        """Absent is fine. Raises HostRefused."""
        if held.netns_name:
            netns_resolv_conf.remove(self._of_netns(held), owner=held.name)
        self._remove(held.name)
        self._complaints.over(key=held.name)

    def _of_netns(self, held: Attachment) -> Path:
        return self._named / held.netns_name / "resolv.conf"

    def _remove(self, name: str) -> None:
        paths = self.paths(name)
        for path in (paths.environment, paths.resolv_conf):
            with refused_as(f"cannot remove {path}", hint="remove it by hand"):
                path.unlink(missing_ok=True)

    def look(self) -> None:
        """Something that environments depend on may have changed. Cheap, however often it is called."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the files of all attachments up to date. Ends only by cancellation."""
        backoff, written = Backoff(longest=30.0), object()
        self._sweep()
        while True:
            basis = await self.environments.basis()
            if basis is not written:
                await self._write_all()
                written = basis
            if self._complaints.standing:
                written = object()
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                await self._changed.wait()
                await asyncio.sleep(REST)
            self._changed.clear()

    async def _write_all(self) -> None:
        """Copies of an app one after the other."""
        for held in sorted(filter(self._is_present, self._ledger.all()), key=lambda held: held.app):
            try:
                await self.write(held)
                self._complaints.over(key=held.name)
            except Conflict:
                pass  # the operator has put a file of another content there since
            except RAISED as error:
                self._complaints.about(error, key=held.name, name=held.name)
            await asyncio.sleep(0)

    def _is_present(self, held: Attachment) -> bool:
        now = self._ledger.get(held.name)
        return now is not None and now.phase is not Phase.DETACHING and held.name not in self._leaving

    def _sweep(self) -> None:
        """Remove what a crash has left of others."""
        known = {held.name for held in self._ledger.all()}
        for folder in (self._folders.environment, self._folders.resolv_conf):
            for name in set(os.listdir(folder)) - known if folder.is_dir() else ():
                self._remove(name)


def _put(path: Path, text: str) -> None:
    """Rename into place what is not there already: no reader sees half of it."""
    content = text.encode()
    if not path.is_file() or path.read_bytes() != content:
        with refused_as(f"cannot write {path}", hint="see df, mount and the permissions"):
            make_folder(path.parent, mode=0o755)
            replace(Write(path, content, PUBLIC), lasting=False)
