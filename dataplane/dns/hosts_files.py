"""The folder that dnsmasq has its names from: one file for each 16 addresses, as lines of /etc/hosts.

dnsmasq sees a file that is written, renamed into the folder or removed from it, and passes over what begins with a dot. Not a
file for each address: for each record of an answer dnsmasq walks through a list of all its files, so that with 2,000 of them an
app of 500 instances costs 2 ms a question. And not one file for all, since a file that changes is read as a whole.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Final, TypeAlias

from host.durable import PUBLIC, Write, make_folder, replace
from host.errors import HostRefused, refused_as

Names: TypeAlias = Mapping[IPv4Address, tuple[str, ...]]
"""What each address is called, the name for its reverse look-up first."""

BLOCK: Final = 16  # addresses in a file
FOLDER_MODE: Final = 0o755  # dnsmasq's user reads, and writes nothing


def block_of(address: IPv4Address) -> IPv4Address:
    """The first address of the file that an address is in."""
    return IPv4Address(int(address) // BLOCK * BLOCK)


def content_of(block: IPv4Address, names: Names) -> bytes:
    """The file of a block; empty if none of its addresses has a name."""
    addresses = (block + number for number in range(BLOCK))
    return "".join(f"{each} {' '.join(names[each])}\n" for each in addresses if names.get(each)).encode()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was last looked at; by `mark` it is seen whether it is still the same."""

    mark: tuple[int, ...]
    names: dict[IPv4Address, tuple[str, ...]]


@dataclass(slots=True)
class HostsFolder:
    """`path` is made where it is missing. What is in it and is no file of ours is removed."""

    path: Path
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def read(self) -> dict[IPv4Address, tuple[str, ...]]:
        """What dnsmasq has now. A file that has not changed since it was last looked at is not read. Raises HostRefused."""
        with refused_as(f"cannot read {self.path}", hint="see `ls -la`, and space and descriptors left"):
            make_folder(self.path, mode=FOLDER_MODE)
            self._keep_to_ourselves()
            with os.scandir(self.path) as entries:
                marks = {each.name: _mark(each.stat(follow_symlinks=False)) for each in entries}
            self._seen = {name: self._look(name, mark) for name, mark in marks.items()}
        return {address: names for each in self._seen.values() for address, names in each.names.items()}

    def _keep_to_ourselves(self) -> None:
        found = os.stat(self.path)
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(self.path, os.geteuid(), os.getegid())
        if stat.S_IMODE(found.st_mode) != FOLDER_MODE:
            os.chmod(self.path, FOLDER_MODE)

    def _look(self, name: str, mark: tuple[int, ...]) -> _Seen:
        known = self._seen.get(name)
        if known is not None and known.mark == mark:
            return known
        return _Seen(mark, _parsed(self.path / name) if _is_ours(name, mark) else {})

    def strange(self) -> tuple[str, ...]:
        """The names of what was there when the folder was read, and is no file of ours."""
        return tuple(sorted(name for name, seen in self._seen.items() if not _is_ours(name, seen.mark)))

    def write(
        self, blocks: Iterable[IPv4Address], names: Names, *, withdrawn: bool = False
    ) -> Iterator[tuple[IPv4Address, HostRefused]]:
        """Have the files of these blocks say `names`; those that could not be written, and why: they are as they were.

        But for what is to be `withdrawn`: where there is no room for the new file the old one goes first. No answer is better
        than an address that may be another's by now.
        """
        for block in blocks:
            try:
                with refused_as(f"cannot write {self.path / str(block)}", hint="see `df` and `ls -la`"):
                    self._write(self.path / str(block), content_of(block, names), withdrawn=withdrawn)
            except HostRefused as error:
                yield block, error

    def remove(self, names: Iterable[str]) -> None:
        """Take these out. Raises HostRefused."""
        for each in names:
            with refused_as(f"cannot remove {self.path / each}", hint="dnsmasq reads what is in there: remove it by hand"):
                _remove(self.path / each)

    def _write(self, path: Path, content: bytes, *, withdrawn: bool) -> None:
        if not content:
            path.unlink(missing_ok=True)
            return
        new = Write(path, content, PUBLIC)
        try:
            replace(new, lasting=False)
        except OSError:
            if not withdrawn:
                raise
            path.unlink(missing_ok=True)
            replace(new, lasting=False)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        path.rmdir()


def _mark(found: os.stat_result) -> tuple[int, ...]:
    return found.st_mode, found.st_uid, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_ours(name: str, mark: tuple[int, ...]) -> bool:
    mode, owner = mark[0], mark[1]
    if not stat.S_ISREG(mode) or stat.S_IMODE(mode) != PUBLIC or owner != os.geteuid():
        return False
    with suppress(AddressValueError):
        return block_of(IPv4Address(name)) == IPv4Address(name)
    return False


def _parsed(path: Path) -> dict[IPv4Address, tuple[str, ...]]:
    """What a file of ours says. What cannot be read as one of ours says nothing, and is written anew."""
    try:
        text = path.read_bytes()
        words = [line.split() for line in text.decode("ascii").splitlines()]
        found = {IPv4Address(address): tuple(names) for address, *names in words}
    except (OSError, ValueError):
        return {}
    return found if content_of(IPv4Address(path.name), found) == text else {}
