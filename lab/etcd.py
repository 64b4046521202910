"""A real etcd: one member, without syncs to the disk, that outlives the process that started it, until it is killed."""

import json
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from host.errors import HostRefused
from lab import children
from lab.children import Finished, Running
from lab.processes import Process

START_SECONDS = 20.0
CTL_SECONDS = 20.0
END_SECONDS = 10.0
POLL_SECONDS = 0.02
LOG_BYTES = 2000


class Etcd:
    """The member whose files are below `folder`, with the same address and data each time it is started."""

    def __init__(
        self, folder: Path, *, netns: Path | None, host: str, port: int = 2379, peer_port: int = 2380, tls: bool = False,
    ) -> None:  # fmt: skip
        """It runs in the namespace `netns`, or in ours."""
        self.folder = folder
        self.url = f"{'https' if tls else 'http'}://{host}:{port}"
        self._netns = netns
        self._peer = f"http://127.0.0.1:{peer_port}"
        self._child: Running | None = None

    @property
    def process(self) -> Process | None:
        """Its process, None if it does not run."""
        try:
            found = json.loads((self.folder / "process.json").read_text())
        except (OSError, ValueError):
            return None
        process = Process(int(found["pid"]), int(found["started"]))
        return process if process.lives else None

    def start(self) -> None:
        """Start it, or let it go on if it was frozen; returns when it answers. Nothing happens if it runs."""
        self.begin()
        self.await_well()

    def begin(self) -> None:
        """The first half of `start`."""
        running = self.process
        if running is not None:
            running.send(signal.SIGCONT)
            return
        if not all(map(shutil.which, ("etcd", "etcdctl"))):
            raise HostRefused("etcd is not installed here", hint="'sudo make lab' installs it")
        self.folder.mkdir(parents=True, exist_ok=True)
        command = (
            "etcd", "--name", "lab", "--data-dir", str(self.folder / "data"), "--unsafe-no-fsync", "--logger", "zap",
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", self._peer, "--initial-advertise-peer-urls", self._peer,
            "--initial-cluster", f"lab={self._peer}", "--heartbeat-interval", "20", "--election-timeout", "200",
        )  # fmt: skip
        argv = [*command, *self._server_options()]
        self._child = children.start(argv, netns=self._netns, root=self.folder.parent, log=self.folder / "log")
        began = Process.of(self._child.pid)
        if began is not None:
            (self.folder / "process.json").write_text(json.dumps({"pid": began.pid, "started": began.started}))

    def await_well(self) -> None:
        """Wait until it answers. Raises HostRefused with its last words if it ends or is silent."""
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process is None or time.monotonic() > until:
                raise HostRefused(f"etcd does not run:\n{self.last_words()}", hint=f"see {self.folder / 'log'}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """kill -9; returns when it is gone. Nothing happens if it does not run."""
        found = self.process
        if found is None:
            return
        found.send(signal.SIGKILL)
        until = time.monotonic() + END_SECONDS
        while found.lives:
            if time.monotonic() > until:
                raise HostRefused(f"process {found.pid} does not end", hint="see what it waits for")
            time.sleep(POLL_SECONDS / 4)
        if self._child is not None:
            self._child.wait(END_SECONDS)
            self._child = None

    def freeze(self) -> None:
        """Have it take connections and never answer, until it is started or thawed. Raises HostRefused if it does not run."""
        self._running().freeze()

    def thaw(self) -> None:
        """Have it answer what it has been asked meanwhile."""
        self._running().send(signal.SIGCONT)

    def _running(self) -> Process:
        found = self.process
        if found is None:
            raise HostRefused("etcd does not run", hint="start it")
        return found

    def try_ctl(self, *words: str) -> Finished:
        """`etcdctl WORDS`, whether it succeeds or not."""
        argv = ["etcdctl", "--endpoints", self.url, "--command-timeout", "5s", *self._client_options(), *words]
        return children.run(argv, netns=self._netns, root=self.folder.parent, timeout=CTL_SECONDS)

    def last_words(self) -> str:
        """The end of its log."""
        try:
            return (self.folder / "log").read_text(errors="replace")[-LOG_BYTES:]
        except OSError:
            return ""

    def _answers(self) -> bool:
        """With users, nothing more can be asked without one."""
        done = self.try_ctl("endpoint", "health")
        return done.code == 0 or "user name is empty" in done.err

    def _server_options(self) -> Sequence[str]:
        """More words for etcd."""
        return ()

    def _client_options(self) -> Sequence[str]:
        """More words for etcdctl."""
        return ()
