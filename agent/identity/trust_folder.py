"""The roots that a cell trusts, as files for its apps: the folder that `CF_SYSTEM_CERT_PATH` names, as Cloud Foundry has it.

All of them are in `ca.crt`, for programs that want one file. For those that want a folder (OpenSSL's CApath, `curl --capath`)
those of one subject are in a file that is named after it, which is where OpenSSL looks: it takes all roots that it finds there.
Files are replaced by renames and the folder never is, so that a container into which it is mounted sees each change.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ca.pem import certificates, chain_bytes
from ca.subject_hash import subject_hash
from host.durable import PUBLIC, Write, make_folder, replace, sync_folder
from host.errors import refused_as

BUNDLE = "ca.crt"


@dataclass(frozen=True, slots=True)
class TrustFolder:
    """The folder at `path`, and nothing else is in it."""

    path: Path

    @property
    def bundle(self) -> Path:
        """The file with all roots."""
        return self.path / BUNDLE

    def put(self, roots: bytes) -> None:
        """Trust these (PEM) and no others; what is there already is not written. Raises HostRefused if it cannot be."""
        wanted = files_of(roots)
        with refused_as(f"cannot write {self.path}", hint="see df, mount and the permissions"):
            make_folder(self.path, mode=0o755)
            changed = {name: content for name, content in wanted.items() if not self._has(name, content)}
            if changed:
                replace(*(Write(self.path / name, content, PUBLIC) for name, content in changed.items()))
            gone = self._files() - wanted.keys()
            for name in sorted(gone):
                (self.path / name).unlink()
            if gone:
                sync_folder(self.path)

    def _files(self) -> set[str]:
        with os.scandir(self.path) as entries:
            return {entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)}

    def _has(self, name: str, content: bytes) -> bool:
        path = self.path / name
        return path.is_file() and path.read_bytes() == content


def files_of(roots: bytes) -> Mapping[str, bytes]:
    """Name -> content (PEM) of every file that these roots (PEM) make."""
    by_subject: dict[str, bytes] = {}
    for each in certificates(roots, where="the trust bundle"):
        name = f"{subject_hash(each)}.0"
        by_subject[name] = by_subject.get(name, b"") + chain_bytes((each,))
    return {BUNDLE: roots, **by_subject}
