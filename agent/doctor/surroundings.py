"""What surrounds the cell's processes: open files, conntrack's table, inotify, proxies of the environment."""

import ctypes
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.config.config import Config
from agent.doctor.checks import Finding
from agent.model.status import Problem
from host import sysctl

LEAST_FILES: Final = 8192  # of a process: 500 containers and their connections in Envoy
FULL: Final = 0.9
COUNT, MOST = "net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max"
ENVIRONMENT: Final = Path("/etc/environment")
PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")


def open_files(pid: int | None) -> Finding:
    """The limit of the agent's process, or without one of what starts from here."""
    hard = resource.prlimit(pid or 0, resource.RLIMIT_NOFILE)[1]
    about = "no limit" if hard == resource.RLIM_INFINITY else f"{hard} for {'the agent' if pid else 'what starts here'}"
    if hard == resource.RLIM_INFINITY or hard >= LEAST_FILES:
        return Finding(about)
    what = f"a process may open {hard} files: Envoy then serves few connections, and an agent few containers"
    return Finding(about, (Problem("kernel", what, "LimitNOFILE=1048576 in the unit, or: ulimit -Hn 1048576"),))


def tracked_flows(*, full: float = FULL) -> Finding:
    """How full conntrack's table is, which all flows of the host share."""
    found = sysctl.read((COUNT, MOST))
    if len(found) < 2:
        return Finding("the kernel follows none yet")
    count, most = int(found[COUNT]), int(found[MOST])
    about = f"{count} of {most}"
    if count < full * most:
        return Finding(about)
    what = f"conntrack's table is nearly full ({about}): new connections are dropped, whatever policies say"
    hint = f"sysctl -w net.netfilter.nf_conntrack_max={4 * most}; `conntrack -S` and `conntrack -L` show what fills it"
    return Finding(about, (Problem("kernel", what, hint),))


def inotify() -> Finding:
    """Whether a program can follow a folder: without that, policy files take effect a second later."""
    descriptor = ctypes.CDLL(None, use_errno=True).inotify_init1(0)
    if descriptor >= 0:
        os.close(descriptor)
        return Finding("policy files are followed at once")
    what = f"no inotify instance is left: {os.strerror(ctypes.get_errno())}; policy files take effect up to a second late"
    return Finding("", (Problem("kernel", what, "sysctl -w fs.inotify.max_user_instances=1024"),))


def proxies(config: Config, *, environment: Mapping[str, str], file: Path = ENVIRONMENT) -> Finding:
    """Proxies that apps of `cellnet run` inherit, and would ask for names that only the cell knows."""
    known = {**_written(file), **environment}
    lower = {name.lower(): value for name, value in known.items() if value}
    named = [name for name in PROXIES if name in lower]
    if not named:
        return Finding("none")
    exempt = [each.strip().lstrip("*").lstrip(".") for each in lower.get("no_proxy", "").split(",")]
    zones = (config.dns.domain, *config.dns.route_domains)
    left = [
        zone for zone in zones if not any(each == "*" or zone == each or zone.endswith(f".{each}") for each in exempt if each)
    ]
    about = f"{', '.join(named)} in the environment"
    if not left:
        return Finding(about)
    wanted = ",".join([*(f".{each}" for each in zones), str(config.overlay.network)])
    what = f"{about}: apps that inherit it ask the proxy for names in {', '.join(left)}, which it does not know"
    return Finding(about, (Problem("dns", what, f"no_proxy={wanted} in {file} and in the shell that runs `cellnet run`"),))


def _written(file: Path) -> Mapping[str, str]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.strip().removeprefix("export ").partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs if value}
