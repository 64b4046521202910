"""Machines of a test: a Debian with systemd as process 1, booted by systemd-nspawn in namespaces of its own.

The root is made once (setup/machines); a machine is an overlay above it, whose upper folder is the test's. It has the kernel of
this host, and all else of its own: a reboot or a power loss takes away what it takes away anywhere, its network among it.
"""

import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from lab.segment import MAC
from tests.testlib.machines.boot import Boot, Overlay
from tests.testlib.machines.checkout import ROOT, bind, put_checkout
from tests.testlib.netns import Netns

BOOT_SECONDS = 60.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@cache
def root_of(release: str | None = None) -> Path:
    """Where the root of a release is (None: this host's); it is made where it is missing, which takes a minute."""
    words = [] if release is None else [release]
    made = subprocess.run([str(ROOT / "setup/machines"), *words], stdout=subprocess.PIPE, text=True, timeout=900, check=False)
    assert made.returncode == 0, "setup/machines has failed"
    return Path(made.stdout.strip())


class Segment:
    """The network of the machines, 10.77.0.0/24, with a bridge that has its last address: in a namespace, with no way out."""

    def __init__(self) -> None:
        self.lan = Netns("lan")
        for words in (f"link add br0 address {MAC} type bridge", "addr add 10.77.0.254/24 dev br0", "link set br0 up"):
            self.lan.run("ip", *words.split())

    def close(self) -> None:
        """Removes it."""
        self.lan.close()


class Machine:
    """One of them, `m<number>` with the address 10.77.0.<number>; it boots when it is made, and `ready` waits for it.

    `release` is that of this host unless given. `checkout`: the programs of this checkout are its /usr/bin/cellnet and others,
    the units of systemd/ are in place, and none of them is started or enabled; that needs the Python of this host.
    `folder` takes what the machine writes.
    """

    def __init__(
        self, segment: Segment, number: int, *, folder: Path, release: str | None = None, checkout: bool = True
    ) -> None:
        self.segment, self.number, self.name = segment, number, f"m{number}"
        self.address = f"10.77.0.{number}"
        self._overlay = Overlay(root_of(release), folder, name=self.name)
        self._extra = bind() if checkout else ()
        if checkout:
            put_checkout(self._overlay.merged)
        self._boot: Boot | None = None
        self.boot()

    def boot(self) -> None:
        """Power on; returns at once."""
        assert self._boot is None, f"{self.name} runs"
        self._boot = Boot(self._overlay.merged, name=self.name, address=self.address, lan=self.segment.lan, extra=self._extra)

    @property
    def netns(self) -> Netns:
        """The machine's network namespace; another one after each boot."""
        assert self._boot is not None, f"{self.name} does not run"
        return self._boot.netns

    def path(self, inside: str) -> Path:
        """Where a file of the machine is on this host; what the machine has mounted (/run, /tmp) is reached while it runs."""
        if self._boot is not None and (leader := self._boot.leader()) is not None:
            return Path(f"/proc/{leader}/root") / inside.lstrip("/")
        return self._overlay.merged / inside.lstrip("/")

    def argv(self, *argv: str) -> list[str]:
        """What runs a command inside, as root with a clean environment."""
        assert self._boot is not None, f"{self.name} does not run"
        leader = self._boot.leader()
        assert leader is not None, f"{self.name} has ended: {self._boot.console()}"
        return ["nsenter", "-t", str(leader), "-a", "--", "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", "HOME=/root", *argv]

    def run(self, *argv: str, check: bool = True, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a command inside to its end; `stdout` has what it printed on both streams."""
        done = subprocess.run(
            self.argv(*argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=timeout, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{self.name}: {' '.join(argv)}: exit code {done.returncode}\n{done.stdout}"
        return done

    def shell(self, text: str, *, check: bool = True, timeout: float = 60) -> str:
        """Run a script inside, and return what it printed."""
        return self.run("bash", "-euo", "pipefail", "-c", text, check=check, timeout=timeout).stdout

    def start(self, *argv: str, pipes: bool = False) -> "subprocess.Popen[str]":
        """Start a command inside, as a service of the machine's; with pipes, what it prints must be read.

        A process that this host has started in there is nobody's child there: a reboot would wait for it for 90 s.
        """
        there = subprocess.PIPE if pipes else subprocess.DEVNULL
        words = ("systemd-run", "--quiet", "--collect", *(("--pipe",) if pipes else ()), "--", *argv)
        return subprocess.Popen(self.argv(*words), stdin=there, stdout=there, stderr=subprocess.STDOUT, text=True)

    def ready(self) -> "Machine":
        """Wait until it has booted."""
        until = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < until:
            assert self._boot is not None
            if self._boot.leader() is not None and self._state() in ("running", "degraded"):
                return self
            time.sleep(0.05)
        assert self._boot is not None
        raise AssertionError(f"{self.name} has not booted within {BOOT_SECONDS:g} s: {self._boot.console()}")

    def _state(self) -> str:
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()

    def wait_for(self, unit: str, state: str = "active", *, seconds: float = 30) -> None:
        """Until a unit is in a state."""
        until = time.monotonic() + seconds
        while (found := self.run("systemctl", "is-active", unit, check=False).stdout.strip()) != state:
            assert time.monotonic() < until, f"{unit} is {found}:\n{self.shell(f'journalctl -n 40 -u {unit}', check=False)}"
            time.sleep(0.05)

    def reboot(self) -> None:
        """As `systemctl reboot`; returns when it has booted again."""
        assert self._boot is not None
        self.run("systemctl", "reboot", check=False)
        self._boot.await_end(BOOT_SECONDS)
        self.power_off()
        self.boot()
        self.ready()

    def has_ended(self) -> bool:
        """Whether it has gone down by itself since it was booted."""
        return self._boot is not None and self._boot.ended()

    def power_loss(self) -> None:
        """Take its power away and give it back; returns when it has booted again."""
        self.power_off()
        self.boot()
        self.ready()

    def power_off(self) -> None:
        """Take its power away: nothing in it gets to say a last word. What it has written stays."""
        if self._boot is not None:
            self._boot.close()
            self._boot = None

    def close(self) -> None:
        """Power off, and remove what is left of it; `folder` is the caller's."""
        self.power_off()
        self._overlay.close()


def boot_all(
    segment: Segment, count: int, *, folder: Path, first: int = 1, release: str | None = None, checkout: bool = True
) -> Sequence[Machine]:
    """Machines that boot side by side, ready when this returns."""
    with ExitStack() as undo:
        made = [
            Machine(segment, number, folder=folder / f"m{number}", release=release, checkout=checkout)
            for number in range(first, first + count)
        ]
        for each in made:
            undo.callback(each.close)
        for each in made:
            each.ready()
        undo.pop_all()
    return made
