"""The legacy backend: python-iptables in process for few chains and jumps, iptables-legacy-restore for many, and for all where
that library cannot be relied on or fails.

A legacy table is one blob in the kernel: a program that changes it reads, edits and writes it back whole, and the xtables lock
keeps two from undoing each other. python-iptables does not know that lock, so we hold it from reading to writing.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dataplane.firewall import python_iptables_trial
from dataplane.firewall.driver import TOOL_SECONDS, FirewallTables
from dataplane.firewall.restore import restore_text
from dataplane.firewall.save import read_both
from dataplane.plan import ChainDelta, JumpDelta
from host.errors import HostRefused
from host.process import run

TOOLS = {4: "iptables-legacy", 6: "ip6tables-legacy"}
FEW = 8  # chains; more are faster by the tool, which writes the table once too but builds rules in C
LOOK_AGAIN = 0.005


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
        from dataplane.firewall import python_iptables

        with self._locked():
            try:
                python_iptables.write(chains, jumps)
            except HostRefused:
                return False
        return True

    def _is_small(self, chains: ChainDelta, jumps: JumpDelta) -> bool:
        from dataplane.firewall import python_iptables  # not before it has passed its trial

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


def taken(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
