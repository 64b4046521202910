"""One agent per network namespace: an abstract socket is the lock, since its names belong to the namespace.

Every user may bind an abstract name, so only root's sockets count: where another user has the lock's name, the agent takes one
that cannot be guessed, looks for root's sockets under all such names, and reports the other user. The kernel knows whose it is.

    bind      we can be seen by all that bind later
    look      a socket of root's that listens has the lock; of those that only bind, the first by name may go on
    listen    we have the lock
"""

import errno
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agent.errors import Conflict
from agent.model.status import Part, Problem
from host import unix_sockets
from host.unix_sockets import Holder

AGENT, UP = "agent", "up"
WORDS = {AGENT: "an agent runs", UP: "`cellnet up` runs"}
LOOKS, LOOK_AGAIN = 250, 0.02  # seconds; an agent that starts beside us gets five seconds to give up
PATIENCE = 3.0  # seconds; one that was killed has the lock until its last thread, or the tool that it was starting, lets go
PROC = Path("/proc")

Token = Callable[[], str]


class ForeignHolders(Part):
    """Users other than root that hold names of the agent's lock."""

    def __init__(self, *uids: int) -> None:
        self._uids = uids

    def problems(self) -> Iterator[Problem]:
        """One for each."""
        for uid in self._uids:
            yield Problem("lock", f"uid {uid} holds a name of the agent's lock", "see ss -xlp | grep cellnet-agent")


def _silent(_why: Conflict) -> None:
    """Who waits needs no word."""


def take(
    part: str = AGENT,
    *,
    on_foreign: Callable[[int], None],
    on_wait: Callable[[Conflict], None] = _silent,
    token: Token = secrets.token_hex,
    patience: float = PATIENCE,
) -> socket.socket:
    """Hold the lock until the socket is closed or the process ends. Raises Conflict if another of root's has it.

    One that is about to end gets `patience` seconds: nobody else can be sure that it is. `on_foreign` is called with the uid of
    each other user that holds a name of the lock, once; `on_wait` with why it is waited for, once. `token` makes what they
    cannot guess. Raises HostRefused where the kernel does not list unix sockets.
    """
    until = time.monotonic() + patience
    reported: set[int] = set()

    def report(uid: int) -> None:
        if uid not in reported:
            reported.add(uid)
            on_foreign(uid)

    while True:
        try:
            return _try_once(part, report, token)
        except Conflict as why:
            if time.monotonic() >= until:
                raise
            on_wait(why)
            on_wait = _silent
            time.sleep(LOOK_AGAIN)


def _try_once(part: str, on_foreign: Callable[[int], None], token: Token) -> socket.socket:
    """As `take`, without patience."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        name = _bind(lock, part, token)
        _outlast(name, part, on_foreign)
        lock.listen(0)  # the mark of having the lock: no connection is ever accepted
    except BaseException:
        lock.close()
        raise
    return lock


def _bind(lock: socket.socket, part: str, token: Token) -> str:
    name = f"cellnet-{part}"
    while True:
        try:
            lock.bind(f"\0{name}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            name = f"cellnet-{part}.{token()}"
        else:
            return name


def _outlast(name: str, part: str, on_foreign: Callable[[int], None]) -> None:
    """Return when no other socket of root's has a name of the lock, or is about to have it."""
    rivals: list[Holder] = []
    for _ in range(LOOKS):
        others = [each for each in unix_sockets.holders() if _is_ours(each.name, part) and each.name != name]
        for uid in sorted({each.uid for each in others} - {0}):
            on_foreign(uid)
        rivals = [each for each in others if each.uid == 0]
        if not rivals:
            return
        if any(each.listens or each.name < name for each in rivals):
            break
        time.sleep(LOOK_AGAIN)  # it may have looked before we were there, or is giving up
    raise Conflict(
        f"{WORDS[part]} in this network namespace already ({_shown(rivals)})",
        hint="stop it first; `cellnet status` talks to it",
    )


def _is_ours(name: str, part: str) -> bool:
    return name == f"cellnet-{part}" or name.startswith(f"cellnet-{part}.")


def processes(part: str) -> tuple[int, ...]:
    """Root's that have the lock, as far as our /proc knows them."""
    return tuple(_processes([each for each in unix_sockets.holders() if _is_ours(each.name, part) and each.uid == 0]))


def _shown(rivals: Iterable[Holder]) -> str:
    found = next(_processes(rivals), None)
    return "a process in another pid namespace" if found is None else f"process {found}"


def _processes(holders: Iterable[Holder]) -> Iterator[int]:
    wanted = {f"socket:[{each.inode}]" for each in holders}
    for folder in PROC.iterdir() if wanted else ():
        if folder.name.isdigit() and wanted & set(_open_files(folder)):
            yield int(folder.name)


def _open_files(folder: Path) -> Iterable[str]:
    try:
        descriptors = os.listdir(folder / "fd")
    except OSError:
        return
    for each in descriptors:
        try:
            yield os.readlink(folder / "fd" / each)
        except OSError:
            continue
