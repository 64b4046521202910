"""A real etcd for tests: one member, on loopback or in a namespace of the test's, without syncs to the disk."""

import os
import socket
import subprocess
import time
from ipaddress import IPv4Address
from pathlib import Path

from agent.config.etcd import Endpoint
from agent.config.etcd import Etcd as Config

LOOPBACK = IPv4Address("127.0.0.1")


class Etcd:
    """Runs from `start` to `kill`; the address, the port and the data stay the same."""

    def __init__(
        self,
        folder: Path,
        *,
        netns: Path | None = None,
        address: IPv4Address = LOOPBACK,
        certificates: Path | None = None,
        ask: bool = False,
    ) -> None:
        """`certificates`: a folder with ca.crt and those of server and root, for TLS; `ask`: clients must have one too."""
        self.folder = folder
        self.endpoint = Endpoint(str(address), 2379 if netns else free_port(), tls=certificates is not None)
        self._certificates = certificates
        self._ask = ask
        self._peer = f"http://127.0.0.1:{2380 if netns else free_port()}"
        self._enter = ["nsenter", f"--net={netns}"] if netns else []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Config:
        """How a client reaches it."""
        return Config(endpoints=(self.endpoint,), ca=self._certificates / "ca.crt" if self._certificates else None)

    def start(self) -> None:
        """Returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = (
            "etcd", "--name", "test", "--data-dir", str(self.folder / "data"), "--unsafe-no-fsync", "--logger", "zap",
            "--listen-client-urls", str(self.endpoint), "--advertise-client-urls", str(self.endpoint),
            "--listen-peer-urls", self._peer, "--initial-advertise-peer-urls", self._peer,
            "--initial-cluster", f"test={self._peer}", "--heartbeat-interval", "20", "--election-timeout", "200",
        )  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._enter, *command, *self._tls()], stdout=log, stderr=log)
        until = time.monotonic() + 20
        while not self._listens():
            well = self._process.poll() is None and time.monotonic() < until
            assert well, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.02)

    def _listens(self) -> bool:
        """With users, nothing more can be asked without one."""
        done = self._ctl("endpoint", "health")
        return done.returncode == 0 or "user name is empty" in done.stderr

    def _tls(self) -> list[str]:
        here = self._certificates
        if here is None:
            return []
        asking = ["--client-cert-auth", f"--trusted-ca-file={here}/ca.crt"] if self._ask else []
        return [f"--cert-file={here}/server.crt", f"--key-file={here}/server.key", *asking]

    def _ctl_tls(self) -> list[str]:
        here = self._certificates
        files = {"cacert": "ca.crt"} | ({"cert": "root.crt", "key": "root.key"} if self._ask else {})
        return [f"--{option}={here / name}" for option, name in files.items()] if here else []

    def kill(self) -> None:
        """As a power loss would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def signal(self, number: int) -> None:
        """Send it a signal: SIGSTOP makes it one that takes connections and never answers."""
        assert self._process is not None
        self._process.send_signal(number)

    def ctl(self, *words: str) -> str:
        """`etcdctl WORDS`."""
        done = self._ctl(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [
            *self._enter,
            "etcdctl",
            "--endpoints",
            str(self.endpoint),
            "--command-timeout",
            "5s",
            *self._ctl_tls(),
            *words,
        ]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=20)


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
