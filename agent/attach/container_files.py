"""Each container's files below /run/cellnet, for engines to mount and to read: its resolv.conf, and its environment.

Both are written before an attach has its answer and go with the attachment; those of a reservation are there from that on,
with the folder for its certificates, until it is released. The environment names the apps that this one may
reach, so it is written again when policies or apps change, beside the loop: a revoke must not wait for it.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent import log
from agent.attach import netns_resolv_conf
from agent.attach.environments import Environment, Environments
from agent.complaint import Complaints
from agent.errors import RAISED, Conflict
from agent.model.attachment import Attachment, Phase
from agent.model.names import AppName
from agent.model.reservation import Reservation
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
        self._written: object = object()  # the basis of what all files hold
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
        """Absent is fine. Those of a reservation stay for the next container of that name. Raises HostRefused."""
        if held.netns_name:
            netns_resolv_conf.remove(self._of_netns(held), owner=held.name)
        if held.name in self._ledger.reservations.all():
            self.environments.prepare_folders(held.name)  # they went with the certificates
            self._written = object()
            self.look()
        else:
            self._remove(held.name)
        self._complaints.over(key=held.name)

    async def reserved_environment(self, reserved: Reservation) -> Environment:
        """What the container will find, as things stand now; nothing before it has its place."""
        if reserved.place is None:
            return Environment({})
        return await self.environments.at(reserved.place, name=reserved.name, app=reserved.app, services=reserved.services)

    async def write_reserved(self, reserved: Reservation) -> None:
        """For what is not attached. Raises HostRefused, and what the store raises."""
        environment, paths = await self.reserved_environment(reserved), self.paths(reserved.name)
        if self._ledger.get(reserved.name) is None and reserved.name in self._ledger.reservations.all():
            _put(paths.resolv_conf, self._resolv_conf(reserved.app).text)
            _put(paths.environment, environment.text)
            self.environments.prepare_folders(reserved.name)

    def remove_reserved(self, name: str) -> None:
        """Of what is neither reserved any more nor attached. Absent is fine. Raises HostRefused."""
        self._remove(name)
        self.environments.remove_folders(name)
        self._complaints.over(key=name)

    async def prepare(self) -> None:
        """At the start: what engines mount of reservations is there before they start their containers again."""
        await self._write_those(self._ledger.reservations.all().values())

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
        backoff = Backoff(longest=30.0)
        self._sweep()
        while True:
            basis = await self.environments.basis()
            if basis is not self._written:
                self._written = basis
                await self._write_all()
            if self._complaints.standing:
                self._written = object()
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                await self._changed.wait()
                await asyncio.sleep(REST)
            self._changed.clear()

    async def _write_all(self) -> None:
        """Copies of an app one after the other."""
        present = [held for held in self._ledger.all() if self._is_present(held)]
        await self._write_those(sorted(present, key=lambda held: held.app))
        await self._write_those(sorted(self._ledger.reservations.all().values(), key=lambda each: each.app))

    async def _write_those(self, wanted: Iterable[Attachment | Reservation]) -> None:
        for held in wanted:
            try:
                await (self.write(held) if isinstance(held, Attachment) else self.write_reserved(held))
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
        known = {held.name for held in self._ledger.all()} | self._ledger.reservations.all().keys()
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
