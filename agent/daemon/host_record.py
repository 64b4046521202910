"""What the host was before this cell's first agent of a boot, on the file system of /run: it goes with what it is about."""

from pathlib import Path

from dataplane.host_before import HostBefore
from host.durable import PUBLIC, Write, make_folder, replace
from host.errors import refused_as


def keep(path: Path) -> None:
    """Look and write it down, unless an earlier agent has. Raises HostRefused."""
    if not path.exists():
        with refused_as(f"cannot write {path}", hint="see df, mount and the permissions"):
            make_folder(path.parent, mode=0o755)
            replace(Write(path, HostBefore.seen().text().encode(), PUBLIC), lasting=False)


def kept(path: Path) -> HostBefore | None:
    """None where there is none, or what is there makes no sense."""
    try:
        return HostBefore.parse(path.read_text())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
