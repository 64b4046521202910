"""What the resolver should have of the state: its folder of names, written around the kernel's part of a turn and read back.

A name that goes is withdrawn before the kernel's part: a caller that still gets the address would be refused. One that comes is
published after it, when there is a way to it. What cannot be written is a problem in `status`, and never the end of a turn.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Set
from ipaddress import IPv4Address

from agent import log
from agent.complaint import Complaints
from agent.errors import HostRefused
from agent.model.status import Part, Problem
from dataplane.dns.hosts_files import HostsFolder, Names, block_of
from dataplane.plan import diff

WHOLE = "folder"  # the key of a failure that is not of one file


class NamesTable(Part):
    """One per loop. `on_repair` is told of what another program had changed."""

    def __init__(self, folder: HostsFolder, *, on_repair: Callable[[str], None]) -> None:
        self._folder = folder
        self._announced: Names = {}  # what dnsmasq is asked for, to see that it goes by the folder
        self._on_repair = on_repair
        self._files: Names | None = None  # what they say; None where they must be read
        self._settled: tuple[Names, frozenset[IPv4Address]] | None = None  # what they say in full was asked for with these
        self._failures = Complaints(log.get("names"), failed="names_not_written", recovered="names_written")
        self._lock = asyncio.Lock()  # between a turn and a look, each of which leaves the loop to others

    def problems(self) -> tuple[Problem, ...]:
        """What could not be written, in a few words where it is much."""
        standing = list(self._failures.standing.values())
        more = f", and {len(standing) - 1} more files" if len(standing) > 1 else ""
        return tuple(Problem("dns", each.what + more, each.hint) for each in standing[:1])

    @property
    def published(self) -> int:
        """How many instances have names."""
        return len((self._files or {}).keys() - self._announced.keys())

    async def announce(self, name: str, address: IPv4Address) -> str:
        """Have a name that is no instance's in the files, in place of the last one; what is there then, "" for none."""
        async with self._lock:
            before, self._announced = self._announced, {address: (name,)}
            files = await self._read() if self._files is None else self._files
            if files is None:
                return ""
            kept = {key: each for key, each in files.items() if key not in before}
            await self._write({**kept, **self._announced}, files)
            return next(iter((self._files or {}).get(address, ())), "")

    async def withdraw(self, names: Names) -> None:
        """Leave no more than `names` in the files."""
        if self._settled is not None and self._settled[0] is names:
            return
        async with self._lock:
            files = await self._read() if self._files is None else self._files
            if files is not None:
                await self._write(_common(files, {**names, **self._announced}), files, withdrawn=True)

    async def publish(self, names: Names, *, broken: Collection[IPv4Address]) -> None:
        """Have them in the files, but for containers that are `broken` and were not there before."""
        asked = names, frozenset(broken)
        if self._settled == asked:
            return
        async with self._lock:
            files = await self._read() if self._files is None else self._files
            if files is None:
                return
            there = {address: each for address, each in names.items() if each and (address not in broken or address in files)}
            wanted = {**there, **self._announced}
            await self._write(wanted, files)
            self._settled = asked if self._files == wanted else None

    async def look(self) -> bool:
        """Read the folder; False if a turn has to mend it."""
        async with self._lock:
            known = self._files
            found = await self._read()
            if found is None or known is None or self._failures.standing:
                self._settled = None
                return False
            changed = diff(known, found)
            if changed:
                self._settled = None
                self._on_repair(f"names {sum(1 for _ in changed.lines())}")
            return not changed

    async def _read(self) -> Names | None:
        """What the files say; what is no file of ours is removed. None where that is refused."""
        try:
            self._files = await asyncio.to_thread(self._read_and_clear)
        except HostRefused as error:
            self._files = None
            self._failures.about(error, key=WHOLE)
        else:
            self._failures.over(key=WHOLE)
        return self._files

    def _read_and_clear(self) -> Names:
        found = self._folder.read()
        strange = self._folder.strange()
        if strange:
            self._folder.remove(strange)
            self._on_repair(f"files in the folder of names {len(strange)}")
        return found

    async def _write(self, wanted: Names, files: Names, *, withdrawn: bool = False) -> None:
        """Only files that change are written. What the others say stays known."""
        changes = diff(wanted, files)
        blocks = {block_of(address) for address in (*changes.put, *changes.drop)} | self._failed_blocks()
        if not blocks:
            self._files = files
            return
        failed = await asyncio.to_thread(lambda: dict(self._folder.write(sorted(blocks), wanted, withdrawn=withdrawn)))
        for block in sorted(blocks):
            if block in failed:
                self._failures.about(failed[block], key=block)
            else:
                self._failures.over(key=block)
        self._files = _as_written(wanted, files, failed.keys()) if failed else wanted
        if failed and withdrawn:
            self._files = None  # whether the old file has gone first must be read

    def _failed_blocks(self) -> set[IPv4Address]:
        return {key for key in self._failures.standing if isinstance(key, IPv4Address)}


def _common(files: Names, names: Names) -> Names:
    """What both have; `files` itself where that is all of it."""
    reduced: dict[IPv4Address, tuple[str, ...]] = {}
    for address, had in files.items():
        wanted = names.get(address, ())
        kept = had if wanted is had or wanted == had else tuple(filter(frozenset(wanted).__contains__, had))
        if kept:
            reduced[address] = kept
    return files if reduced == files else reduced


def _as_written(wanted: Names, files: Names, failed: Set[IPv4Address]) -> Mapping[IPv4Address, tuple[str, ...]]:
    """`wanted`, but for the blocks that `failed`, which are as they were."""
    return {
        **{address: each for address, each in wanted.items() if block_of(address) not in failed},
        **{address: each for address, each in files.items() if block_of(address) in failed},
    }
