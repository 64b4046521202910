"""Leaves on tmpfs: `<directory>/<attachment>/{instance.crt,instance.key}`, and one folder of trusted roots for all.

Apps read them there (`CF_INSTANCE_CERT` and its kin), and the agent reads them again after a restart: the same bytes, so Envoy
is pushed nothing. Keys never reach a disk, so a directory that is not on tmpfs gets one mounted on it.
"""

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import InvalidInput
from agent.identity.trust_folder import TrustFolder
from agent.model.key_owner import ROOT, KeyOwner
from ca import files
from ca.errors import CaRefused
from ca.pem import certificates, fits, private_key
from dataplane.state import Leaf
from host import syscalls
from host.durable import PUBLIC, Write, make_folder, replace
from host.errors import refused_as
from host.lasting_mounts import in_first_mounts

CHAIN, KEY = "instance.crt", "instance.key"
TRUST = "_trust"  # no attachment is called that
# Two files of one page each, their directory, and as much again while both are being replaced: 1,000 containers need 12 MB.
SIZE = "mode=0755,size=16m"
HINT = "see df, mount and the permissions"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The leaves under `directory`. Call `open` first; one agent at a time may write."""

    directory: Path

    def open(self) -> None:
        """Make the directory and see that it is on tmpfs. Raises HostRefused if it cannot be."""
        with refused_as(f"cannot keep keys in memory at {self.directory}", hint=f"mount a tmpfs at {self.directory}"):
            make_folder(self.directory, mode=0o755)
            if not on_tmpfs(self.directory):
                in_first_mounts(self.directory, self._mount)
                if not on_tmpfs(self.directory):
                    self._mount()

    def _mount(self) -> None:
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("cellnet-identity", str(self.directory), kind="tmpfs", flags=flags, options=SIZE)

    @property
    def trust(self) -> TrustFolder:
        """What apps trust."""
        return TrustFolder(self.directory / TRUST)

    def chain_of(self, name: str) -> Path:
        """Where the certificate chain of attachment `name` is."""
        return self._of(name) / CHAIN

    def key_of(self, name: str) -> Path:
        """Where the key of attachment `name` is."""
        return self._of(name) / KEY

    def load(self, owners: Mapping[str, KeyOwner]) -> Mapping[str, Leaf]:
        """What is there, by attachment; `owners` are those of the keys, where it is not root.

        What is half there, damaged, or readable by others than its owner or not by that one is left out, to be issued anew.
        """
        found = {name: self._read(name, owners.get(name, ROOT)) for name in self._names()}
        return {name: leaf for name, leaf in found.items() if leaf is not None}

    def put(self, name: str, leaf: Leaf, *, owner: KeyOwner = ROOT) -> None:
        """Write one leaf in place of what was there, its key for `owner`. Raises HostRefused if the tmpfs refuses."""
        chain, key = self.chain_of(name), self.key_of(name)
        if self._read(name, owner) == leaf:
            return
        if chain.is_dir() or key.is_dir():
            self.drop(name)
        with refused_as(f"cannot write {chain.parent}", hint=HINT):
            # the folder stays the same one: it may be mounted into a container
            make_folder(chain.parent, mode=0o755)
            replace(Write(key, leaf.key, owner.mode, owner.ids), Write(chain, leaf.chain, PUBLIC))

    def prepare(self, name: str) -> None:
        """Make its folder, which may be mounted before there is a certificate. Raises HostRefused."""
        with refused_as(f"cannot make {self._of(name)}", hint=HINT):
            make_folder(self._of(name), mode=0o755)

    def drop(self, name: str) -> None:
        """Take one leaf away; absent is fine."""
        directory = self._of(name)
        with refused_as(f"cannot remove {directory}", hint="remove it by hand"), suppress(FileNotFoundError):
            shutil.rmtree(directory)

    def sweep(self, known: Iterable[str]) -> tuple[str, ...]:
        """Take away the leaves of all but `known`; returns the names of those that were there."""
        strangers = tuple(sorted(self._names() - set(known)))
        for name in strangers:
            self.drop(name)
        return strangers

    def _of(self, name: str) -> Path:
        if not name or name.startswith(".") or "/" in name or "\0" in name or name == TRUST:
            raise InvalidInput(f"'{name}' cannot name a directory of keys", hint="use letters, digits and hyphens")
        return self.directory / name

    def _names(self) -> set[str]:
        if not self.directory.is_dir():
            return set()
        with os.scandir(self.directory) as entries:
            return {
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and entry.name[0] != "." and entry.name != TRUST
            }

    def _read(self, name: str, owner: KeyOwner) -> Leaf | None:
        try:
            chain, key = files.read(self.chain_of(name)), self._read_key(name, owner)
            if chain is None or key is None:
                return None
            whole = fits(certificates(chain, where=CHAIN)[0], private_key(key, where=KEY))
        except CaRefused:
            return None
        return Leaf(chain=chain, key=key) if whole else None

    def _read_key(self, name: str, owner: KeyOwner) -> bytes | None:
        """None where others may read it, or its owner may not."""
        with suppress(OSError), self.key_of(name).open("rb") as file:
            found = os.fstat(file.fileno())
            if (found.st_uid, found.st_gid) == owner.ids and not stat.S_IMODE(found.st_mode) & ~owner.mode:
                return file.read()
        return None


def on_tmpfs(path: Path, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether `path` lies in memory: the kernel lists a mount of type tmpfs or ramfs with the path's device number."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if fields.split()[2] == number:
            return kind.split()[0] in ("tmpfs", "ramfs")
    return False
