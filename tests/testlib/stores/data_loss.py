"""Cells' stores with disks of their own, and an etcd that loses its data: for tests of what is left then."""

import asyncio
import contextlib
import shutil
import subprocess
from pathlib import Path

from agent.model.names import AppName
from agent.store.database import Database
from agent.store.etcd.client import EtcdClient
from agent.store.etcd.disk_copy import DiskCopy
from agent.store.etcd.store import EtcdStore
from tests.testlib.patience import eventually_async
from tests.testlib.stores.etcd import Etcd

NOW = 1_700_000_000.0


class StoreWithDisk:
    """A cell's store with its disk. It can be stopped, and started again."""

    def __init__(self, name: str, etcd: Etcd, folder: Path) -> None:
        self.name = name
        self._etcd = etcd
        self._folder = folder
        self._client = EtcdClient(etcd.config, seconds=1.0)
        self._task: asyncio.Task[None] | None = None
        self.flaps: list[str] = []

    def start(self) -> "StoreWithDisk":
        self._database = Database(self._folder / f"{self.name}.db")
        copy = DiskCopy(self._database)
        self.store = EtcdStore(self._client, prefix="/cellnet", cell=self.name, disk_copy=copy, clock=lambda: NOW)
        self._task = asyncio.get_running_loop().create_task(self.store.run())
        return self

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            self._database.close()
        await self._client.close()

    async def documents(self) -> dict[str, str]:
        return {policy.name: policy.document for policy in await self.store.policies()}

    async def has(self, **documents: str) -> None:
        async def so() -> bool:
            return await self.documents() == documents

        await eventually_async(so)

    async def tags(self) -> dict[AppName, int]:
        return dict(await self.store.tags())

    async def well(self) -> None:
        await eventually_async(lambda: self.store.mirror.problem is None)

    async def recovered(self, before: int) -> None:
        """It has taken other data than that of `before`."""
        await eventually_async(lambda: self.store.mirror.data > before and self.store.mirror.problem is None)

    def told(self) -> str:
        return "\n".join(each.what for each in self.store.problems())

    def watch(self, *expected: str) -> None:
        """Note whenever one of these policies is not in force."""

        def look() -> None:
            there = {key.rpartition("/")[2] for key in self.store.mirror.in_force if "/policies/" in key}
            self.flaps.extend(set(expected) - there)

        self.store.changes.subscribe(look)


class LossyEtcd(Etcd):
    """An etcd that can lose its data, and have other data put in its place."""

    def lose(self) -> None:
        self.kill()
        shutil.rmtree(self.folder / "data")
        self.start()

    def keep_copy(self) -> None:
        self.kill()
        shutil.rmtree(self.folder / "older", ignore_errors=True)
        shutil.copytree(self.folder / "data", self.folder / "older")
        self.start()

    def put_copy_back(self) -> None:
        self.kill()
        shutil.rmtree(self.folder / "data")
        shutil.copytree(self.folder / "older", self.folder / "data")
        self.start()

    def save(self) -> None:
        (self.folder / "snapshot").unlink(missing_ok=True)
        self.ctl("snapshot", "save", str(self.folder / "snapshot"))

    def restore(self) -> None:
        """`etcdctl snapshot restore`, which makes another cluster of it."""
        self.kill()
        shutil.rmtree(self.folder / "data")
        command = ("etcdctl", "snapshot", "restore", str(self.folder / "snapshot"), "--data-dir", str(self.folder / "data"))
        names = ("--name", "lab", "--initial-cluster", f"lab={self._peer}", "--initial-advertise-peer-urls", self._peer)
        token = ("--initial-cluster-token", "another")
        environment = {"ETCDCTL_API": "3", "PATH": "/usr/bin"}
        subprocess.run([*command, *names, *token], env=environment, check=True, capture_output=True)
        self.start()
