"""Files of sysctl that switch off what containers need: each run of them cuts them off until the agent's repair."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from agent.doctor.checks import Finding
from agent.model.status import Problem

FOLDERS: Final = tuple(map(Path, ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")))
MAIN: Final = Path("/etc/sysctl.conf")
OFF: Final = {"net.ipv4.ip_forward": "0", "net.ipv4.conf.all.forwarding": "0"}


def saved_settings(folders: Sequence[Path] = FOLDERS, main: Path = MAIN) -> Finding:
    """What holds after a boot: of files of one name the first folder's, and of a setting the last by their names."""
    files = {path.name: path for folder in reversed(folders) for path in _listed(folder)}
    last = {name: (value, path) for path in (*(files[name] for name in sorted(files)), main) for name, value in _written(path)}
    problems = [
        Problem("kernel", f"{path} sets {name} to {value}, which containers are cut off by", f"sed -i '/{name}/d' {path}")
        for name, (value, path) in last.items()
        if OFF.get(name) == value
    ]
    return Finding(f"{len(files)} files of sysctl.d", tuple(problems))


def _listed(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*.conf") if path.is_file())


def _written(path: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith(("#", ";")):
            yield name.strip().lstrip("-").replace("/", "."), value.strip()
