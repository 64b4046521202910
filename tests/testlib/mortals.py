"""Processes that make one HostState true, each of which can be killed before any of its effects.

`Mortals` speaks to a process of its own, made once, which forks a new one for each state: nothing but the kernel's tables
passes from one to the next. It runs this file as a script, without what a test process has loaded.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from subprocess import Popen

from dataplane.apply import Kernel
from dataplane.compile import compile_tables
from dataplane.firewall.choice import Backend, firewall
from dataplane.plan import plan
from dataplane.state import HostState
from tests.testlib import trap
from tests.testlib.effects import Effects, descriptor_of


@dataclass(frozen=True)
class Life:
    """What became of one: what it did, and before which effect it was killed, if it was."""

    effects: tuple[str, ...]
    killed_before: str | None
    failures: tuple[IPv4Address, ...] = field(default=())


@dataclass(frozen=True)
class Mortals:
    """Those of one host namespace and one backend."""

    host: Path
    backend: Backend
    parent: Connection

    def become(self, state: HostState, *, killed_before: int | None = None) -> Life:
        """Have one make `state` true; it is killed before its effect of that number (from 1), if it gets that far."""
        self.parent.send((self.host, self.backend, state))
        pid, listener = self.parent.recv()
        effects = Effects(pid, descriptor_of(pid, listener))
        try:
            effects.die_before(killed_before, with_tools=True)
            self.parent.send(None)
            failures = self.parent.recv()
        finally:
            effects.close()
        assert (failures is None) == (effects.stopped_before is not None), failures
        return Life(tuple(effects.seen), effects.stopped_before, failures or ())


@contextmanager
def mortals(host: Path, backend: Backend) -> Iterator[Mortals]:
    """For as long as they are needed."""
    here, there = Pipe()
    argv = [sys.executable, "-P", "-m", "tests.testlib.mortals", str(there.fileno())]
    root = Path(__file__).parents[2]
    parent = Popen(argv, pass_fds=[there.fileno()], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    there.close()
    try:
        yield Mortals(host, backend, here)
    finally:
        here.close()
        parent.wait()


def bear(above: Connection) -> None:
    """Fork for each order that comes from above; its result, or None for one that was killed."""
    firewall(Backend.LEGACY)  # python-iptables looks for its libraries with a compiler, once
    while True:
        try:
            order = above.recv()
        except EOFError:
            return
        below, child = Pipe()
        pid = os.fork()
        if pid == 0:
            below.close()
            live(above, child, *order)
        child.close()
        with below:
            try:
                above.send(below.recv())
            except EOFError:
                above.send(None)
        os.waitpid(pid, 0)


def live(above: Connection, result: Connection, host: Path, backend: Backend, state: HostState) -> None:
    """One life: read, plan, apply."""
    listener = trap.spring()
    above.send((os.getpid(), listener))
    above.recv()
    kernel = Kernel(firewall(backend), namespace=host)
    tables = compile_tables(state)
    found = kernel.read(tables, known={}).result()
    outcome = kernel.apply(plan(tables, found), tables).result()
    result.send(tuple(outcome.failures))
    os._exit(0)


if __name__ == "__main__":
    bear(Connection(int(sys.argv[1])))
