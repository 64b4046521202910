"""Docker and containerd on a test's cell, each a daemon of the test's own; containers have this machine's /usr and no image.

Neither is given a network: Docker's containers join one that is attached, containerd's `ctr` asks the plugin. What they keep is
below the cell's folder, and goes with it.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.children import Finished
from tests.testlib.cell import CellUnderTest
from tests.testlib.engines.podman import PLUGINS, ROOT, Podman
from tests.testlib.machines.boot import CGROUPS
from tests.testlib.patience import eventually

USR = "type=bind,src=/usr,dst=/usr,options=rbind:ro"
CONTAINERD = """version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/socket"
"""
# ctr looks nowhere else; its process alone sees these
PLACES = "for each in /etc/cni /opt; do mount -t tmpfs tmpfs $each; done; mkdir -p /etc/cni/net.d /opt/cni/bin; "
PLACES += 'mount --bind "$1" /etc/cni/net.d; mount --bind "$2" /opt/cni/bin; shift 2; exec "$@"'


class EngineDaemon:
    """One that runs; `folder` has what is its own."""

    def __init__(self, cell: CellUnderTest, name: str) -> None:
        self.cell = cell
        self.folder = cell.lab.root / name
        self.folder.mkdir(exist_ok=True)

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    @contextmanager
    def running(self, *argv: str) -> Iterator[None]:
        """Until the block ends."""
        self.socket.unlink(missing_ok=True)
        words = ["nsenter", f"--net={self.cell.lab.netns}", *argv]
        with (self.folder / "log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as daemon:
            try:
                eventually(lambda: self.socket.exists() or daemon.poll() is not None)
                assert daemon.poll() is None, (self.folder / "log").read_text()
                yield
            finally:
                daemon.terminate()

    def run(self, *argv: str, code: int | None = 0) -> Finished:
        """A command on the cell's host."""
        done = self.cell.lab.run(*argv)
        assert code is None or done.code == code, f"{' '.join(argv)} ended with {done.code}: {done.out}{done.err}"
        return done


class Ctr(EngineDaemon):
    """containerd, asked by `ctr`."""

    def __init__(self, cell: CellUnderTest, podman: Podman) -> None:
        super().__init__(cell, "containerd")
        self._root = podman.folder / "rootfs"
        for place in ("bin", "net.d"):
            (self.folder / place).mkdir()
        conflist = json.loads((ROOT / "agent/cni/cellnet.conflist").read_text())
        conflist["plugins"][0] |= {"socket": str(cell.lab.root / "run/cellnet/agent.sock")}
        (self.folder / "net.d/50-cellnet.conflist").write_text(json.dumps(conflist))
        for each in (PLUGINS / "cellnet-cni", Path("/usr/lib/cni/loopback")):
            (self.folder / "bin" / each.name).symlink_to(each)
        self._config = self.folder / "config.toml"
        self._config.write_text(CONTAINERD.format(folder=self.folder))

    @contextmanager
    def started(self) -> Iterator["Ctr"]:
        """Until the block ends."""
        with self.running("containerd", "-c", str(self._config)):
            yield self

    def __call__(self, *words: str, code: int | None = 0) -> Finished:
        """`ctr WORDS`."""
        places = ("unshare", "--mount", "sh", "-euc", PLACES, "sh", str(self.folder / "net.d"), str(self.folder / "bin"))
        return self.run(*places, "ctr", "--address", str(self.socket), *words, code=code)

    def container(self, name: str, *command: str, options: Sequence[str] = (), code: int | None = 0) -> Finished:
        """`ctr run --cni`."""
        words = (
            "run",
            "--detach",
            "--cni",
            "--runc-binary=runc",
            f"--runc-root={self.folder}/runc",
            "--cgroup=",
            f"--mount={USR}",
            *options,
            "--rootfs",
        )
        return self(*words, str(self._root), name, *(command or ("/usr/bin/sleep", "infinity")), code=code)

    def remove(self, name: str) -> None:
        """Its process, and the container."""
        self("task", "delete", "--force", name)
        self("container", "delete", name)


class Docker(EngineDaemon):
    """dockerd, without a network of its own unless it is started with one."""

    def __init__(self, cell: CellUnderTest, podman: Podman) -> None:
        super().__init__(cell, "docker")
        self._root = podman.folder / "rootfs"
        self._cgroup = f"cellnet-test-{os.getpid()}"

    @contextmanager
    def started(self, *, network: bool = False) -> Iterator["Docker"]:
        """Until the block ends; with an image `base`, or with a `network`: a bridge, and rules of iptables as it likes them."""
        kept = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        places = (f"--host=unix://{self.socket}", *(f"--{what}={self.folder / place}" for what, place in kept.items()))
        limits = ("--default-ulimit=nofile=1024:1024", "--default-ulimit=nproc=1000:1000", f"--cgroup-parent=/{self._cgroup}")
        networks = () if network else ("--iptables=false", "--bridge=none")
        engine = (*limits, "--storage-driver=vfs", "--exec-opt=native.cgroupdriver=cgroupfs")
        with self.running("dockerd", *places, *networks, "--ip6tables=false", *engine):
            if not network:
                tar = self.folder / "root.tar"
                subprocess.run(["tar", "-C", str(self._root), "-cf", str(tar), "."], check=True)
                self("import", str(tar), "base:latest")
            try:
                yield self
            finally:
                names = self("ps", "--all", "--quiet", code=None).out.split()
                self("rm", "--force", *names, code=None)
        for each in (*CGROUPS.glob(f"*/{self._cgroup}"), CGROUPS / self._cgroup):
            with suppress(OSError):
                each.rmdir()

    def __call__(self, *words: str, code: int | None = 0) -> Finished:
        """`docker WORDS`."""
        return self.run("/usr/bin/docker", "--host", f"unix://{self.socket}", *words, code=code)

    def container(self, name: str, *command: str, options: Sequence[str]) -> None:
        """`docker run`."""
        self(
            "run", "--detach", f"--name={name}", "--volume=/usr:/usr:ro", *options, "base", *(command or ("sleep", "infinity"))
        )

    def pid(self, name: str) -> int:
        """Of a container's first process."""
        return int(self("inspect", "--format={{.State.Pid}}", name).out)
