"""Which processes of a network namespace have a port: by the kernel's lists of sockets and the processes' descriptors."""

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import chain
from pathlib import Path
from typing import Final

from host.namespace import NamespaceId

LISTS: Final = ("tcp", "udp", "tcp6", "udp6")
PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True, order=True)
class PortHolder:
    """A process, its program's name and its user."""

    pid: int
    program: str
    uid: int

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid})"


def is_free(address: IPv4Address, port: int) -> bool:
    """Whether this process could serve there, over TCP and over UDP. Raises OSError where not for another reason."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as tried:
            if kind is socket.SOCK_STREAM:  # else connections that have ended would count for a minute
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((str(address), port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
                raise
    return True


def holders(address: IPv4Address, port: int) -> tuple[PortHolder, ...]:
    """Those with a socket there, or on that port of all addresses, in the calling thread's network namespace."""
    return tuple(sorted(set(chain.from_iterable(holders_of(frozenset(_inodes(address, port))).values()))))


def holders_of(inodes: Collection[int]) -> Mapping[int, tuple[PortHolder, ...]]:
    """Those of each of these sockets, in one look at all processes."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, set[PortHolder]] = {inode: set() for inode in inodes}
    for folder in _processes() if wanted else ():
        for link in wanted.keys() & set(_open_in(folder)):
            with suppress(OSError):  # it has ended
                found[wanted[link]].add(_holder(folder))
    return {inode: tuple(sorted(those)) for inode, those in found.items()}


def is_parent_within(pid: int, namespace: NamespaceId) -> bool:
    """Whether a process has a child in this network namespace."""
    for folder in _processes():
        with suppress(OSError):  # it has ended
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and NamespaceId.of(folder / "ns/net") == namespace:
                return True
    return False


def _processes() -> Iterator[Path]:
    return (folder for folder in PROC.iterdir() if folder.name.isdecimal())


def _open_in(folder: Path) -> Iterator[str]:
    """What a process has open; nothing of one that has ended."""
    with suppress(OSError):
        for name in os.listdir(folder / "fd"):
            with suppress(OSError):
                yield os.readlink(folder / "fd" / name)


def _inodes(address: IPv4Address, port: int) -> Iterator[int]:
    ours = {f"{_hex(each)}:{port:04X}" for each in (address, IPv4Address(0))}
    ours |= {f"{'0' * 32}:{port:04X}", f"{'0' * 16}FFFF0000{_hex(address)}:{port:04X}"}
    for name in LISTS:
        with suppress(FileNotFoundError):
            for line in (PROC / "thread-self/net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1] in ours and fields[9] != "0":
                    yield int(fields[9])


def _hex(address: IPv4Address) -> str:
    """As the kernel prints it: a number of the machine's own order."""
    return f"{struct.unpack('=I', address.packed)[0]:08X}"


def _holder(folder: Path) -> PortHolder:
    return PortHolder(int(folder.name), (folder / "comm").read_text().strip(), folder.stat().st_uid)
