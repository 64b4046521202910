"""Processes that can be killed before any of their effects: one that makes a HostState true, or a whole agent.

`fork_server` speaks to a process of its own, made once, which forks all others: a new Python that loads an agent takes a second
of a processor. Nothing but the host passes from one to the next. It runs this file as a script.
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

from dataplane.compile import compile_tables
from dataplane.firewall.backends.backends import Backend, firewall
from dataplane.firewall.backends.python_iptables_trial import passed
from dataplane.kernel import Kernel
from dataplane.plan import plan
from dataplane.state import HostState
from host.namespace import enter
from lab import children
from tests.testlib.crashes import seccomp
from tests.testlib.crashes.effects import Effects, descriptor_of

LONGEST: Final = 1 << 17  # octets of a message


@dataclass(frozen=True)
class ApplyState:
    """Make a state true in a host's namespace: read, plan, apply. The result are the addresses that failed."""

    host: Path
    backend: Backend
    state: HostState

    def run(self) -> tuple[IPv4Address, ...]:
        kernel = Kernel(firewall(self.backend), namespace=self.host)
        tables = compile_tables(self.state)
        found = kernel.read(tables, known={}).result()
        return tuple(kernel.apply(plan(tables, found), tables).result().failures)


@dataclass(frozen=True)
class RunCommand:
    """Be `cellnet WORDS` of the cell at `root`, its agent unless told otherwise. The result is its exit code."""

    root: Path
    netns: Path
    log: Path
    words: tuple[str, ...] = ("agent",)

    def run(self) -> int:
        from agent.cli.main import run

        output = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for stream, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
            os.dup2(descriptor, stream)
        os.setsid()
        os.umask(0o022)
        os.environ.update(children.environment(self.root))
        enter(self.netns)
        return run(["--root", str(self.root), *self.words])


class KillableProcess:
    """A forked process that waits for `go`. `life` is a socket to it, which ends with it."""

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
        answer = self._life.recv(LONGEST)
        assert answer or self.effects.stopped_before, "it has ended by itself"
        return pickle.loads(answer) if answer else None

    def forget(self) -> None:
        """Do not wait for its end any more; its tools may go on after it."""
        self._life.close()

    def close(self) -> None:
        """Kill it, if it still lives."""
        self.effects.close()
        self.forget()


class ForkServer:
    """Has processes forked."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders

    def fork(self, work: ApplyState | RunCommand) -> KillableProcess:
        """A new process that waits for `go` to do this work."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            socket.send_fds(self._orders, [pickle.dumps(work)], [there.fileno()])
        return KillableProcess(here)


@contextmanager
def fork_server(*, loads: str = "") -> Iterator[ForkServer]:
    """For as long as killable processes are needed. `loads` are modules that none of them has to load then."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = Path(__file__).parents[3]
    argv = [sys.executable, "-P", "-m", "tests.testlib.crashes.fork_server", str(there.fileno()), *loads.split()]
    with here:
        with there:
            process = subprocess.Popen(argv, pass_fds=[there.fileno()], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
        yield ForkServer(here)
    process.wait()


def serve(orders: socket.socket) -> None:
    """Fork for each order, until the other end closes."""
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, LONGEST, 1)
        if not order:
            return
        if os.fork() == 0:
            orders.close()
            work_once(descriptors[0], pickle.loads(order))
        os.close(descriptors[0])
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def work_once(life: int, work: ApplyState | RunCommand) -> None:
    """The forked process, behind the seccomp filter from its first line on. write(2) is no call that the filter holds up."""
    os.write(life, pickle.dumps((os.getpid(), seccomp.install())))
    os.read(life, 1)
    try:
        os.write(life, pickle.dumps(work.run()))
    except BaseException:
        traceback.print_exc()
    os._exit(0)


if __name__ == "__main__":
    # else each fork would run the trial, and then have python-iptables look for its libraries with a compiler
    library = ["dataplane.firewall.backends.python_iptables"] if passed() else []
    for name in (*library, *sys.argv[2:]):
        importlib.import_module(name)
    serve(socket.socket(fileno=int(sys.argv[1])))
