"""One boot of a machine: systemd-nspawn with a network namespace and a cgroup of its own, and the overlay that it runs on."""

import itertools
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.testlib.netns import PREFIX, Netns
from tests.testlib.patience import eventually

CGROUPS = Path("/sys/fs/cgroup")
PROPAGATED = Path("/run/systemd/nspawn/propagate")
NSPAWN = (
    "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--capability=all", "--system-call-filter=bpf",
    "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only",
)  # fmt: skip
# nspawn's payload/ and supervisor/ are made beside the process that starts it: two machines in one cannot end their own units
START = 'for each in $CGROUPS; do echo 0 >"$each/cgroup.procs"; done; unset CGROUPS; exec "$@"'
_boots = itertools.count()


class Overlay:
    """A root that can be written to, above one that stays as it is. `folder` must be on a disk that takes overlays."""

    def __init__(self, lower: Path, folder: Path, *, name: str) -> None:
        self.merged = folder / "root"
        for each in ("upper", "work", "root"):
            (folder / each).mkdir(parents=True)
        options = f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(self.merged)], check=True)
        (self.merged / "etc/hostname").write_text(f"{name}\n")
        (self.merged / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")

    def close(self) -> None:
        """Takes the root away; what was written stays in `folder`."""
        subprocess.run(["umount", "--recursive", str(self.merged)], check=True)


class Boot:
    """From power on to power off."""

    def __init__(self, root: Path, *, name: str, address: str, lan: Netns, extra: Sequence[str]) -> None:
        self._id = f"{PREFIX}-{next(_boots)}-{name}"
        self._console_path = root.parent / "console"
        self.netns = Netns(name)
        self._port = f"p-{name}"
        self._lan = lan
        self._wire(address)
        self._cgroups = [place / self._id for place in hierarchies()]
        for each in self._cgroups:
            each.mkdir()
        argv = [*NSPAWN, f"--directory={root}", f"--machine={self._id}",
                f"--network-namespace-path={self.netns.path}", *extra]  # fmt: skip
        settings = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                    "CGROUPS": " ".join(map(str, self._cgroups))}  # fmt: skip
        with self._console_path.open("wb") as console:
            self._process = subprocess.Popen(
                ["sh", "-euc", START, "start", *argv], stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env={**os.environ, **settings}, start_new_session=True,
            )  # fmt: skip

    def _wire(self, address: str) -> None:
        self._lan.run("ip", "link", "add", self._port, "type", "veth", "peer", "name", "host0", "netns", self.netns.name)
        self._lan.run("ip", "link", "set", self._port, "master", "br0", "up")
        self.netns.run("ip", "addr", "add", f"{address}/24", "dev", "host0")
        self.netns.run("ip", "link", "set", "host0", "up")
        self.netns.run("ip", "route", "add", "default", "via", "10.77.0.254")

    def leader(self) -> int | None:
        """The pid on this host of the machine's process 1; None before it is there and after it has gone."""
        if self._process.poll() is not None:
            return None
        with suppress(OSError):
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if children and _is_first(int(children[0])):
                return int(children[0])
        return None

    def console(self) -> str:
        """What the machine and nspawn have written there."""
        return self._console_path.read_text(errors="replace")

    def ended(self) -> bool:
        """Whether it has gone down by itself."""
        return self._process.poll() is not None

    def await_end(self, seconds: float) -> None:
        """Until it has gone down by itself."""
        self._process.wait(seconds)

    def close(self) -> None:
        """Ends it where it stands, and removes what this host had for it."""
        while self._process.poll() is None:
            # process 1 of the machine and not nspawn, whose end would leave the machine alone
            if (leader := self.leader()) is not None:
                with suppress(ProcessLookupError):
                    os.kill(leader, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        eventually(lambda: all(map(_removed, self._cgroups)))
        with suppress(FileNotFoundError):
            (PROPAGATED / self._id).rmdir()
        self._lan.run("ip", "link", "del", self._port, check=False)
        self.netns.close()


def _is_first(pid: int) -> bool:
    """Whether it is process 1 of its namespace: nspawn has a child before, which makes that one."""
    words = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid:")).split()
    return words[-1] == "1" and len(words) > 2


def hierarchies() -> list[Path]:
    """Where cgroups of machines are made: both of a hybrid layout, or the unified one alone."""
    found = [each for each in (CGROUPS / "systemd", CGROUPS / "unified") if each.is_dir()]
    return found or [CGROUPS]


def _removed(cgroup: Path) -> bool:
    for folder, _, _ in os.walk(cgroup, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not cgroup.exists()
