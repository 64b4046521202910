"""Processes that can be killed before any of their effects: one that makes a HostState true, or a whole agent.

`parent` speaks to a process of its own, made once, which forks all others: a new Python that loads an agent takes a second of
a processor. Nothing but the host passes from one to the next. It runs this file as a script.
"""

import importlib
import os
import pickle
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from dataplane.apply import Kernel
from dataplane.compile import compile_tables
from dataplane.firewall.backends import Backend, firewall
from dataplane.plan import plan
from dataplane.state import HostState
from host.namespace import enter
from lab import children
from tests.testlib import trap
from tests.testlib.effects import Effects, descriptor_of

LONGEST: Final = 1 << 17  # octets of a message


@dataclass(frozen=True)
class Applying:
    """Make a state true in a host's namespace: read, plan, apply. The result are the addresses that failed."""

    host: Path
    backend: Backend
    state: HostState

    def live(self) -> tuple[IPv4Address, ...]:
        kernel = Kernel(firewall(self.backend), namespace=self.host)
        tables = compile_tables(self.state)
        found = kernel.read(tables, known={}).result()
        return tuple(kernel.apply(plan(tables, found), tables).result().failures)


@dataclass(frozen=True)
class Agent:
    """Be the agent of the cell at `root`. The result is its exit code."""

    root: Path
    netns: Path
    log: Path

    def live(self) -> int:
        from agent.cli.main import run

        output = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for stream, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
            os.dup2(descriptor, stream)
        os.setsid()
        os.umask(0o022)
        os.environ.update(children.environment(self.root))
        enter(self.netns)
        return run(["--root", str(self.root), "agent"])


class Mortal:
    """One of them, from its birth on. `life` is a socket to it, whose end is its end."""

    def __init__(self, life: socket.socket) -> None:
        self._life = life
        self.pid, listener = pickle.loads(life.recv(LONGEST))
        self.effects = Effects(self.pid, descriptor_of(self.pid, listener))

    def go(self, *, killed_before: int | None, with_tools: bool) -> None:
        """Let it begin. It is killed before its effect of that number (from 1), if it gets that far."""
        self.effects.die_before(killed_before, with_tools=with_tools)
        self._life.send(b"!")

    def result(self) -> object:
        """Wait for its end; None if it was killed."""
        said = self._life.recv(LONGEST)
        assert said or self.effects.stopped_before, "it has ended by itself"
        return pickle.loads(said) if said else None

    def forget(self) -> None:
        """Nobody waits for its end any more; tools of its may go on after it."""
        self._life.close()

    def close(self) -> None:
        """Kill it, if it still lives."""
        self.effects.close()
        self.forget()


class Parent:
    """Who forks them."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders

    def bear(self, work: Applying | Agent) -> Mortal:
        """A new one that waits for `go` to do this work."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            socket.send_fds(self._orders, [pickle.dumps(work)], [there.fileno()])
        return Mortal(here)


@contextmanager
def parent(*, loads: str = "") -> Iterator[Parent]:
    """For as long as mortals are needed. `loads` are modules that none of them has to load then."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = Path(__file__).parents[2]
    argv = [sys.executable, "-P", "-m", "tests.testlib.mortals", str(there.fileno()), *loads.split()]
    with here:
        with there:
            process = subprocess.Popen(argv, pass_fds=[there.fileno()], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
        yield Parent(here)
    process.wait()


def bear_all(orders: socket.socket) -> None:
    """Fork for each order, until nobody gives any."""
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, LONGEST, 1)
        if not order:
            return
        if os.fork() == 0:
            orders.close()
            live(descriptors[0], pickle.loads(order))
        os.close(descriptors[0])
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def live(life: int, work: Applying | Agent) -> None:
    """One life, in the trap from its first line on. write(2) is none of the calls that are held up."""
    os.write(life, pickle.dumps((os.getpid(), trap.spring())))
    os.read(life, 1)
    try:
        os.write(life, pickle.dumps(work.live()))
    except BaseException:
        traceback.print_exc()
    os._exit(0)


if __name__ == "__main__":
    firewall(Backend.LEGACY)  # python-iptables looks for its libraries with a compiler
    for name in sys.argv[2:]:
        importlib.import_module(name)
    bear_all(socket.socket(fileno=int(sys.argv[1])))
