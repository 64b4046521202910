"""The legacy backend: python-iptables in process for few chains and jumps, iptables-legacy-restore for many, and for all where
that library cannot be relied on or fails.

A legacy table is one blob in the kernel: a program that changes it reads, edits and writes it back whole, and the xtables lock
keeps two from undoing each other. python-iptables does not know that lock, so we hold it from reading to writing.
"""

import contextlib
import fcntl
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from dataplane.firewall.backends import python_iptables_trial
from dataplane.firewall.backends.driver import TOOL_SECONDS, FirewallTables
from dataplane.firewall.backends.restore import restore_text
from dataplane.firewall.backends.save import read_both
from dataplane.plan import ChainDelta, JumpDelta
from host import syscalls
from host.errors import HostRefused
from host.process import run

TOOLS = {4: "iptables-legacy", 6: "ip6tables-legacy"}
FEW = 8  # chains; more are faster by the tool, which writes the table once too but builds rules in C
LOOK_AGAIN = 0.005
LOADED = {4: Path("/proc/thread-self/net/ip_tables_names"), 6: Path("/proc/thread-self/net/ip6_tables_names")}
FAMILIES = {4: (socket.AF_INET, socket.IPPROTO_IP), 6: (socket.AF_INET6, socket.IPPROTO_IPV6)}
INFO = struct.Struct("=32x13I")  # ipt_getinfo: the table's name, hooks, their first and last rules, number of entries, size
GET_INFO, ENTRIES = 64, 11  # IPT_SO_GET_INFO; the place of the number of entries among what it answers

Stamp: TypeAlias = tuple[tuple[tuple[int, str], tuple[int, ...]], ...]
"""Family and table, and ipt_getinfo, of each table."""


def lock_file() -> Path:
    """Where the tools have it: the same for every program that changes rules here, unless its environment says otherwise."""
    return Path(os.environ.get("XTABLES_LOCKFILE", "/run/xtables.lock"))


@dataclass(frozen=True, slots=True)
class LegacyFirewall:
    """`timeout` seconds bound each call of a tool, `patience` those for which another program may hold the lock."""

    timeout: float = TOOL_SECONDS
    patience: float = 5.0
    lock: Path = field(default_factory=lock_file)
    clock: Callable[[], float] = time.monotonic
    believed: float = 60.0

    def stamp(self) -> Stamp | None:
        """Where the hooks of each table begin and end, and its size: what a rule more or less changes, but not every change."""
        try:
            return tuple(((family, table), _info(family, table)) for family in LOADED for table in _loaded(family))
        except OSError:
            return None

    def stamp_after(self, before: Stamp, *, chains: ChainDelta, jumps: JumpDelta) -> Stamp | None:
        """The present one, if each table has as many entries more or less as these changes make."""
        now = self.stamp()
        if now is None or dict(now).keys() != dict(before).keys():
            return None
        more = Counter({table: info[ENTRIES] - dict(before)[table][ENTRIES] for table, info in now})
        more.subtract(_more_entries(chains, jumps))
        return None if any(more.values()) else now

    def read(self) -> FirewallTables:
        """Ours of both families. Raises HostRefused."""
        return read_both(TOOLS, timeout=self.timeout)

    def apply(self, *, chains: ChainDelta, jumps: JumpDelta) -> None:
        """IPv6 first: it only ever closes. Raises HostRefused, also where the lock is held for longer than `patience`."""
        if python_iptables_trial.passed() and self._is_small(chains, jumps) and self._written(chains, jumps):
            return
        for family in (6, 4):
            text = restore_text(family=family, chains=chains, jumps=jumps)
            if text:
                self.restore(text, family=family)

    def restore(self, text: str, *, family: int) -> None:
        """Write what `restore_text` says; each COMMIT in it is a change of its own. Raises HostRefused."""
        argv = [f"{TOOLS[family]}-restore", "--noflush", "-w", f"{max(self.patience, 1.0):.0f}"]  # 0 would be for ever
        # it must not outlive this agent waiting for the lock: the next agent would not know what is still to come
        try:
            run(argv, stdin=text.encode(), timeout=self.timeout, with_us=True)
        except HostRefused as error:
            if "xtables lock" in error.what:  # its own words do not say where that is
                raise self._held() from error
            raise

    def _written(self, chains: ChainDelta, jumps: JumpDelta) -> bool:
        """Whether python-iptables has done it. What it refuses, the tool may do, or refuse with a reason."""
        from dataplane.firewall.backends import python_iptables

        with self._locked():
            try:
                python_iptables.write(chains, jumps)
            except HostRefused:
                return False
        return True

    def _is_small(self, chains: ChainDelta, jumps: JumpDelta) -> bool:
        from dataplane.firewall.backends import python_iptables  # not before it has passed its trial

        if (
            chains.drop
            or jumps.drop
            or len(chains.put) + len(jumps.put) > FEW
            or any(key.family == 6 for key in (*chains.put, *jumps.put))
        ):
            return False
        return all(python_iptables.can_write(rule) for rules in chains.put.values() for rule in rules)

    def _held(self) -> HostRefused:
        hint = f"see which: fuser -v {self.lock}"
        return HostRefused(f"another program has held the xtables lock for {self.patience:g} s", hint=hint)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.lock, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
        try:
            end = self.clock() + self.patience
            while not taken(descriptor):
                if self.clock() >= end:
                    raise self._held()
                time.sleep(LOOK_AGAIN)
            yield
        finally:
            os.close(descriptor)


def _loaded(family: int) -> list[str]:
    path = LOADED[family]
    return sorted(path.read_text().split()) if path.exists() else []


def _info(family: int, table: str) -> tuple[int, ...]:
    kind, level = FAMILIES[family]
    with socket.socket(kind, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as asked:
        named = table.encode().ljust(INFO.size, b"\0")
        return INFO.unpack(syscalls.getsockopt(asked.fileno(), level, GET_INFO, named))


def _more_entries(chains: ChainDelta, jumps: JumpDelta) -> Counter[tuple[int, str]]:
    """By table: one for each rule, and two for each chain."""
    found: Counter[tuple[int, str]] = Counter()
    for delta, head in ((chains, 2), (jumps, 0)):
        for sign, entries in ((1, delta.put), (-1, delta.old), (-1, delta.drop)):
            for key, rules in entries.items():
                found[key.family, key.table] += sign * (len(rules) + (0 if key in delta.change else head))
    return found


def taken(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
