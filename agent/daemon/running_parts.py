"""Ending what runs of cellnet in this network namespace, whatever started it: units of systemd, `cellnet up`, single parts."""

import os
import pwd
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from agent.config.config import Config
from agent.daemon import lock
from agent.errors import Conflict
from host import process

UNITS = (
    "cellnet.target", "cellnet-agent.service", "cellnet-envoy.service", "cellnet-dns.service", "cellnet-dns-hop.service",
)  # fmt: skip
SYSTEMD = Path("/run/systemd/system")
OWN, FIRST = Path("/proc/self/ns/net"), Path("/proc/1/ns/net")
TOOL_SECONDS = 60.0
PATIENCE = 15.0  # seconds that a process has to end
LOOK_AGAIN = 0.02


def end_all(config: Config, *, force: bool) -> None:
    """Return when none is left. With `force` what does not end is killed. Raises Conflict, HostRefused."""
    _stop_units()
    for part in (lock.UP, lock.AGENT):
        _end(partial(lock.processes, part), what=lock.WORDS[part], force=force)
    _end(lambda: tuple(_children(config)), what="Envoy, dnsmasq or the hop runs", force=True)


def _stop_units() -> None:
    """Those that are loaded; systemd would start again what is only ended."""
    if SYSTEMD.is_dir() and OWN.samefile(FIRST):
        listed = process.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", *UNITS], timeout=TOOL_SECONDS)
        loaded = [word for line in listed.decode().splitlines() for word in line.split()[:1] if word in UNITS]
        if loaded:
            process.run(["systemctl", "stop", *loaded], timeout=TOOL_SECONDS)


def _children(config: Config) -> Iterator[int]:
    """Processes here of the users that only cellnet has. Those inside of containers are in other namespaces."""
    users = set[int]()
    for name in (config.envoy.user, config.dns.user, config.dns.hop_user):
        with suppress(KeyError):
            users.add(pwd.getpwnam(name).pw_uid)
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and folder.stat().st_uid in users - {0} and (folder / "ns/net").samefile(OWN):
                yield int(folder.name)


def _end(find: Callable[[], Sequence[int]], *, what: str, force: bool) -> None:
    until, killing = time.monotonic() + PATIENCE, False
    asked = set[int]()
    while found := find():
        for pid in found:
            if pid not in asked or killing:
                asked.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if killing else signal.SIGTERM)
        if time.monotonic() > until:
            if killing or not force:
                pids = ", ".join(map(str, found))
                raise Conflict(f"{what}, and does not end: process {pids}", hint="end it, or: cellnet teardown --force")
            until, killing = time.monotonic() + PATIENCE, True
        time.sleep(LOOK_AGAIN)
