"""A second Envoy takes over from the first: an upgrade of Envoy, or a change of its command line, that drops no call.

    start     the second one beside the first: the kernel lets both have the containers' ports, as they have one user
    wait      until it listens wherever the first one does, with its certificates
    name      its admin socket is Envoy's from then on; that of the first lies beside it, as `leaving-<pid>.sock`
    drain     the first one listens no more; callers that it has not accepted yet go to the second

The first goes on with the connections that it has. The agent ends it when they have ended (`leaving_envoys.py`).
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.config.config import Config
from agent.envoy.process import worker_count
from agent.errors import Unavailable
from dataplane.envoy.process import admin
from dataplane.envoy.sockets.foreign import listening_process
from host import process
from host.errors import refused_as

SECONDS, POLL = 60.0, 0.05  # with 250 containers Envoy listens everywhere within two seconds
NEXT, LEAVING = "next.sock", "leaving-*.sock"
ACTIVE, WARMING = "listener_manager.total_listeners_active", "listener_manager.total_listeners_warming"
ADDED = "listener_manager.listener_create_success"  # once for each worker that serves one
LIVE: Final = "LIVE"


def next_admin(config: Config) -> Path:
    """Where the second one has its admin socket until it has taken over."""
    return config.paths.envoy_admin.with_name(NEXT)


def leaving_admins(admin_socket: Path) -> Sequence[Path]:
    """Those of Envoys that have handed over."""
    return sorted(admin_socket.parent.glob(LEAVING))


def hand_over(
    config: Config,
    *,
    start: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """`start` starts the second Envoy, whose admin socket is at `next_admin`. Returns the pid of the Envoy that serves now.

    Raises Unavailable where none runs, or where the second does not come to serve: then the first goes on as it was.
    """
    first, second = config.paths.envoy_admin, next_admin(config)
    former, wanted = _running(first), admin.listeners(first)
    start()
    until = clock() + SECONDS
    while not _serves(second, wanted, workers=worker_count(config)):
        if clock() > until:
            _end(second)
            what = f"the second Envoy does not serve all that the first one does after {SECONDS:g} s; the first one goes on"
            raise Unavailable(what, hint="see Envoy's log, and `cellnet status`")
        sleep(POLL)
    newer, leaving = _running(second), first.with_name(LEAVING.replace("*", str(former)))
    with refused_as(f"cannot put {second} in its place", hint="see what it is: ls -la"):
        first.rename(leaving)  # not a link: the kernel allows none to another user's socket
        second.rename(first)
    admin.drain(leaving)
    return newer


def start_beside(config: Config, command: Sequence[str]) -> None:
    """Start what becomes an Envoy with its admin socket at `next_admin`. What another such start has left there goes."""
    _end(next_admin(config))
    process.start_apart(command)


def _running(admin_socket: Path) -> int:
    try:
        return listening_process(admin_socket)
    except OSError as error:
        hint = "start it: `systemctl start cellnet-envoy`"
        raise Unavailable(f"no Envoy runs: {admin_socket}: {error.strerror}", hint=hint) from error


def _serves(admin_socket: Path, wanted: frozenset[str], *, workers: int) -> bool:
    """Whether each worker has taken every listener, `wanted` among them; one without its certificate is still warming."""
    try:
        if admin.server(admin_socket).state != LIVE or not wanted <= admin.listeners(admin_socket):
            return False
        found = admin.counters(admin_socket, (ACTIVE, WARMING, ADDED))
    except Unavailable:
        return False
    return found.get(WARMING, 0) == 0 and found.get(ADDED, 0) >= workers * found.get(ACTIVE, 0)


def _end(admin_socket: Path) -> None:
    with suppress(Unavailable):
        admin.quit_(admin_socket)
    admin_socket.unlink(missing_ok=True)
