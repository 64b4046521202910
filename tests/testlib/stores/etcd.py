"""A real etcd for tests: the lab's own, on loopback or in a namespace of the test's, with TLS where a test asks for it."""

import json
import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from agent.config.etcd import Etcd as Config
from agent.config.etcd import EtcdEndpoint
from lab import etcd

LOOPBACK = IPv4Address("127.0.0.1")


class Etcd(etcd.Etcd):
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
        port, peer = (2379, 2380) if netns else (free_port(), free_port())
        tls = certificates is not None
        super().__init__(folder, netns=netns, host=str(address), port=port, peer_port=peer, tls=tls)
        self.endpoint = EtcdEndpoint(str(address), port, tls=tls)
        self._certificates = certificates
        self._ask = ask

    @property
    def config(self) -> Config:
        """How a client reaches it."""
        return Config(endpoints=(self.endpoint,), ca=self._certificates / "ca.crt" if self._certificates else None)

    def ctl(self, *words: str) -> str:
        """What `etcdctl WORDS` prints."""
        done = self.try_ctl(*words)
        assert done.code == 0, done.err
        return done.out

    def _server_options(self) -> Sequence[str]:
        here = self._certificates
        if here is None:
            return ()
        asking = ["--client-cert-auth", f"--trusted-ca-file={here}/ca.crt"] if self._ask else []
        return [f"--cert-file={here}/server.crt", f"--key-file={here}/server.key", *asking]

    def _client_options(self) -> Sequence[str]:
        here = self._certificates
        files = {"cacert": "ca.crt"} | ({"cert": "root.crt", "key": "root.key"} if self._ask else {})
        return [f"--{option}={here / name}" for option, name in files.items()] if here else []


AnyEtcd = TypeVar("AnyEtcd", bound=Etcd)


def running(etcd: AnyEtcd) -> Iterator[AnyEtcd]:
    """For a fixture: started, and killed after the tests."""
    etcd.start()
    yield etcd
    etcd.kill()


def secret_file(path: Path, text: str) -> Path:
    """A file of root's that nobody else can read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


class SmallEtcd(Etcd):
    """An etcd that is soon full."""

    def fill(self) -> None:
        """Until it takes nothing."""
        for number in range(1000):
            if "database space exceeded" in self.try_ctl("put", f"/other/{number}", "x" * 100_000).err:
                return
        raise AssertionError("it took everything")

    def make_room(self) -> None:
        """What an operator does then."""
        self.ctl("del", "--prefix", "/other/")
        revision = json.loads(self.ctl("get", "/", "-w", "json"))["header"]["revision"]
        self.ctl("compact", str(revision))
        self.ctl("defrag")
        self.ctl("alarm", "disarm")

    def _server_options(self) -> Sequence[str]:
        return ("--quota-backend-bytes", str(2 << 20))


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
