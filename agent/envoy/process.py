"""`cellnet envoy`: become Envoy, as its own user with three capabilities."""

import os
import resource
import time
from pathlib import Path

from agent.config.accounts import envoy_account, obstacle
from agent.config.config import Config
from agent.errors import HostRefused
from dataplane.envoy.process.bootstrap import EnvoySettings
from dataplane.envoy.process.command import bundled_envoy, command, opened_program
from dataplane.envoy.process.overload import connections_for, memory_for
from host.durable import make_folder
from host.errors import refused_as
from host.trust import require_trusted


def worker_count(config: Config) -> int:
    """How many threads of Envoy serve callers: each has a socket of its own on every TLS port."""
    return config.envoy.concurrency or os.cpu_count() or 1


def envoy_obstacle(config: Config) -> HostRefused | None:
    """A folder that Envoy's user cannot enter, on the way to what Envoy needs: its sockets and the namespaces."""
    account, paths = envoy_account(config), config.paths
    return obstacle(account, (paths.xds_socket, paths.envoy_admin, paths.netns / "any"), called="Envoy's user")


def exec_envoy(config: Config, *, admin: Path | None = None) -> int:
    """Replace this process; `admin` is another place than usual for Envoy's admin socket.

    Raises HostRefused if the host lacks the user or the program, or others can exchange that.
    """
    account = envoy_account(config)
    if config.envoy.binary is not None:
        require_trusted(config.envoy.binary)
    admin = admin or config.paths.envoy_admin
    descriptors = raise_descriptor_limit()
    with refused_as(f"cannot prepare {admin.parent}", hint="see what it is: ls -ld"):
        make_folder(admin.parent, mode=0o700)
        os.chown(admin.parent, account.pw_uid, account.pw_gid)
        admin.unlink(missing_ok=True)
    refused = envoy_obstacle(config)
    if refused is not None:
        raise refused
    workers = worker_count(config)
    settings = EnvoySettings(
        cell=config.cell,
        ads=config.paths.xds_socket,
        admin=admin,
        connections=connections_for(descriptors, workers=workers),
        memory=memory_for(descriptors, workers=workers, host=host_memory()),
        started=time.time(),
    )
    argv = command(
        settings,
        binary=opened_program(config.envoy.binary or bundled_envoy()),
        uid=account.pw_uid,
        gid=account.pw_gid,
        workers=workers,
    )
    with refused_as(f"cannot run {argv[0]}", hint="apt-get install util-linux"):
        os.execvp(argv[0], list(argv))  # noqa: S606 -- no shell is what is wanted


def host_memory() -> int:
    """In bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def raise_descriptor_limit() -> int:
    """Raise the soft limit of this process to its hard one, and return it. Children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
