"""The fresh machine of the other Debian release that setup/release makes: an ordinary user with sudo, a soft limit of 1,024
open files, /tmp on tmpfs, umask 027. Tests there are `make test-release`; docs/kernels.md has what came of them.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def other_release() -> str:
    return "trixie" if "VERSION_CODENAME=bookworm" in Path("/etc/os-release").read_text() else "bookworm"


def fresh(command: str, **setting: str) -> subprocess.CompletedProcess[str]:
    """Run on such a machine."""
    return subprocess.run(
        [str(ROOT / "setup" / "release"), other_release(), command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, env={**os.environ, **setting},
    )  # fmt: skip


@pytest.mark.timeout(600)  # where there is no bare system yet, it is made
def test_the_fresh_machine_is_what_it_says() -> None:
    asks = "id -un; umask; ulimit -Sn; stat -f -c %T /tmp; sudo sh -c 'umask; ulimit -Sn'; ls /sys/class/net"
    done = fresh(asks, SETUP="")
    assert done.stdout.split() == ["op", "0027", "1024", "tmpfs", "0027", "1024", "lo"], done.stderr
