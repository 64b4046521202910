"""The other release of Debian, on a fresh machine: the set-up, both backends, TLS and the README's first session.

It has an ordinary user with sudo, a soft limit of 1,024 open files, /tmp on tmpfs, umask 027 (setup/release). All of the tests
there: `make test-release`; docs/kernels.md has what came of it.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARKED = "sudo CI=true .venv/bin/pytest -n 2 --dist loadfile -m release"


def other_release() -> str:
    return "trixie" if "VERSION_CODENAME=bookworm" in Path("/etc/os-release").read_text() else "bookworm"


def fresh(command: str, **setting: str) -> subprocess.CompletedProcess[str]:
    """Run on such a machine."""
    return subprocess.run(
        [str(ROOT / "setup" / "release"), other_release(), command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, env={**os.environ, **setting},
    )  # fmt: skip


@pytest.mark.timeout(900)
def test_the_marked_tests_pass_on_a_fresh_machine_of_the_other_release() -> None:
    """In its network namespace there is nothing but lo: what the set-up has not brought is not there."""
    done = fresh(MARKED, SETUP="test")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert passed
    assert int(passed[1]) > 50
    print(done.stdout)


def test_the_fresh_machine_is_what_it_says() -> None:
    """With the bare system that the test before has left."""
    asks = "id -un; umask; ulimit -Sn; stat -f -c %T /tmp; sudo sh -c 'umask; ulimit -Sn'; ls /sys/class/net"
    done = fresh(asks, SETUP="")
    assert done.stdout.split() == ["op", "0027", "1024", "tmpfs", "0027", "1024", "lo"], done.stderr
