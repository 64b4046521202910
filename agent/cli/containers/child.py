"""The process behind `cellnet run`: it waits in namespaces of its own until it is attached, then becomes the command.

    parent                          child
    fork ─────────────────────────▶ dies with the parent; new network and mount namespaces
         ◀─────── b"ready" ───────── waits
    asks the agent to attach /proc/<child>/ns/net
         ──── the order as JSON ───▶ finds the agent's files, becomes its user, then CMD (closing the pipe)
         ◀── nothing, or an errno ─
    forwards signals, keeps up the child's resolv.conf, reaps

If the parent is killed the kernel kills the child, and the agent sweeps the attachment, whose owner is the parent.
"""

import errno
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.cli.containers.app_user import AppUser
from agent.cli.containers.command import NOT_EXECUTABLE, NOT_FOUND, execute
from agent.cli.containers.identity_mounts import bind_here, private_mounts
from agent.cli.containers.resolver_mounts import bind_resolver
from agent.cli.containers.sysfs import mount_own_sysfs
from agent.errors import HostRefused
from host import syscalls

READY = b"ready"
FORWARDED = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)  # fmt: skip
AWAITED = FORWARDED | {signal.SIGCHLD, signal.SIGIO}


class CannotRun(RuntimeError):
    """CMD could not be executed; `code` is what a shell would return."""

    def __init__(self, what: str, *, code: int) -> None:
        super().__init__(what)
        self.what = what
        self.code = code


@dataclass(frozen=True, slots=True)
class Command:
    """CMD, and as which user and in which folder it runs: None for the caller's own."""

    argv: tuple[str, ...]
    user: AppUser | None = None
    workdir: str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the command finds besides the caller's own: variables, the agent's folders, and the text of its resolv.conf."""

    environment: Mapping[str, str]
    folders: Sequence[str]
    agent_pid: int
    resolv_conf: str


@dataclass(frozen=True, slots=True)
class Child:
    """The waiting process: `answers` and `orders` are our ends of its two pipes, `network` its namespace."""

    pid: int
    answers: int
    orders: int
    network: os.stat_result | None

    def go(self, surroundings: Surroundings) -> None:
        """Let it become the command. Raises CannotRun if it could not.

        From here on the signals of AWAITED are blocked, so that `wait` sees them all; `unblock_signals` ends that.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
        with os.fdopen(self.orders, "wb") as pipe:
            pipe.write(json.dumps(asdict(surroundings)).encode())
        with os.fdopen(self.answers, "rb") as pipe:
            answer = pipe.read()
        if answer:
            number, what = json.loads(answer)
            raise CannotRun(what, code=NOT_FOUND if number == errno.ENOENT else NOT_EXECUTABLE)

    def wait(self, on_io: Callable[[], None]) -> int:
        """Forward signals until it ends; its exit code, 128 + n for signal n. `on_io` is called at each SIGIO."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            seen = signal.sigwaitinfo(AWAITED)
            # what the terminal sends (Ctrl-C) has a positive code and has reached the child already; but not its hangup,
            # which goes to the session's leader alone
            if seen.si_signo == signal.SIGIO:
                on_io()
            elif seen.si_signo == signal.SIGHUP or (seen.si_signo != signal.SIGCHLD and seen.si_code <= 0):
                os.kill(self.pid, seen.si_signo)

    def left_behind(self) -> list[str]:
        """The pids of processes in its network namespace, smallest first."""
        assert self.network is not None, "it has run"
        found = []
        for pid in sorted(int(each) for each in os.listdir("/proc") if each.isdigit()):
            with suppress(OSError):  # it has ended
                if os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), self.network):
                    found.append(str(pid))
        return found

    def end(self) -> None:
        """Kill and reap it, if it is still there."""
        try:
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass  # reaped by wait()


def unblock_signals() -> None:
    """Let signals end us again. Those that came until now were the command's: Ctrl-C, which ended it, must not end us too."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    while signal.sigtimedwait(AWAITED, 0) is not None:
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED)


def start(command: Command) -> Child:
    """Fork a process that will become `command`. Raises HostRefused if it gets no namespaces."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a caller's SIG_IGN would reap the child behind our back
    answers, answering = os.pipe()
    ordered, orders = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(answers)
            os.close(orders)
            _become(command, orders=ordered, answers=answering, parent=parent)
        finally:
            os._exit(NOT_FOUND)  # also on KeyboardInterrupt: this is not the parent's Python
    os.close(answering)
    os.close(ordered)
    answer = os.read(answers, 4096)
    child = Child(pid, answers, orders, os.stat(f"/proc/{pid}/ns/net") if answer == READY else None)
    if answer != READY:
        child.end()
        raise HostRefused(f"no new namespaces: {answer.decode() or 'the process died'}", hint="be root, outside a sandbox")
    return child


def _become(command: Command, *, orders: int, answers: int, parent: int) -> None:
    if not _dies_with(parent):
        return
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        private_mounts()
        mount_own_sysfs()
    except OSError as error:
        os.write(answers, str(error).encode())
        return
    os.write(answers, READY)
    with os.fdopen(orders, "rb") as pipe:
        text = pipe.read()
    if text:
        try:
            _execute(command, Surroundings(**json.loads(text)), parent=parent)
        except OSError as error:
            os.write(answers, json.dumps([error.errno, f"{command.argv[0]}: {error.strerror}"]).encode())


def _dies_with(parent: int) -> bool:
    """Have the kernel end us with our parent; False if it has ended already."""
    syscalls.die_with_parent(signal.SIGKILL)
    return os.getppid() == parent


def _execute(command: Command, order: Surroundings, *, parent: int) -> None:
    with _in_words("the agent's files are out of reach"):
        bind_here([Path(folder) for folder in order.folders], agent_pid=order.agent_pid)
    with _in_words("it has no resolv.conf of its own"):
        bind_resolver(order.resolv_conf)
    if command.user is not None:
        with _in_words(f"it cannot become user {command.user.name}"):
            command.user.become()
        if not _dies_with(parent):  # the kernel forgets that with the old user
            return
    if command.workdir is not None:
        with _in_words(f"cannot enter {command.workdir}"):
            os.chdir(command.workdir)
    execute(command.argv, order.environment)


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """What an error of the block means to CMD's caller; it is none that execve has."""
    try:
        yield
    except OSError as error:
        raise OSError(errno.EIO, f"{what}: {error.strerror or error}") from error
