"""The package of a release, built from this checkout, and machines that install it as an operator does."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.testlib.machines import Machine

ROOT = Path(__file__).resolve().parents[2]
PLACE = "/root"


@cache
def package_of(release: str) -> Path:
    """The .deb; it is built where nothing that it is made of has been built before."""
    made = subprocess.run([str(ROOT / "package/build"), release], stdout=subprocess.PIPE, text=True, timeout=900, check=False)
    assert made.returncode == 0, "package/build has failed"
    return Path(made.stdout.strip())


def install(machine: Machine, package: Path) -> str:
    """Install, upgrade or downgrade, and return what apt and dpkg print."""
    shutil.copy(package, machine.path(PLACE))
    options = "-y -q -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0"
    return machine.shell(f"DEBIAN_FRONTEND=noninteractive apt-get install {options} --allow-downgrades {PLACE}/{package.name}")
