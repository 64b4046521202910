"""A machine with what this checkout is: its programs, its units, the accounts that they run with."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ("cellnet", "cellnet-cni", "cellnet-netavark")
UNITS = Path("usr/lib/systemd/system")


def bind() -> tuple[str, ...]:
    """What nspawn is told: the checkout is at its own path, as .venv is tied to it."""
    return (f"--bind-ro={ROOT}",)


def put_checkout(machine: Path) -> None:
    """Links, units and accounts into a machine's root, before it boots."""
    for each in PROGRAMS:
        (machine / "usr/bin" / each).symlink_to(ROOT / ".venv/bin" / each)
    for kind, place in (("*.service", UNITS), ("*.target", UNITS), ("sysusers.d/*", Path("usr/lib/sysusers.d")),
                        ("tmpfiles.d/*", Path("usr/lib/tmpfiles.d"))):  # fmt: skip
        for source in (ROOT / "systemd").glob(kind):
            shutil.copy(source, machine / place)
    subprocess.run(["systemd-sysusers", f"--root={machine}"], check=True, capture_output=True)
