"""Container engines whose settings decide whether they find cellnet's network."""

import json
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.doctor.checks import Finding
from agent.errors import HostRefused
from agent.model.status import Problem
from host import process

PLUGIN: Final = "cellnet-cni"
NETWORKS: Final = Path("etc/cni/net.d")
CHOSEN: Final = Path("var/lib/containers/storage/defaultNetworkBackend")  # written at podman's first use
SETTINGS: Final = (Path("usr/share/containers/containers.conf"), Path("etc/containers/containers.conf"))
MORE_SETTINGS: Final = Path("etc/containers/containers.conf.d")
LAST_WITH_CNI: Final = 4
HINT: Final = """write [network] network_backend = "cni" into /etc/containers/containers.conf, as docs/engines.md has it"""


def podman(*, root: Path = Path("/")) -> Finding:
    """Whether podman goes by what its network of cellnet is made for. Only files are read: its first use would choose for good.

    Raises HostRefused where podman does not say its version.
    """
    program = shutil.which("podman")
    if program is None:
        return Finding("podman is not here")
    major = _major(program)
    if major > LAST_WITH_CNI:
        return Finding(f"podman {major}, which goes by netavark")
    backend = _backend(root)
    about = f"podman {major}, which goes by {backend}" if backend else f"podman {major}, which has yet to choose: {HINT}"
    if backend == "cni" or not _has_network(root):
        return Finding(about)
    what = f"podman {major} takes no plugins of netavark, and {'goes by it' if backend else 'may choose it'}"
    return Finding(about, (Problem("config", f"{what}: it does not find the network in /{NETWORKS}", HINT),))


def _major(program: str) -> int:
    said = process.run([program, "--version"], timeout=10).decode(errors="replace")
    found = re.search(r"version (\d+)", said)
    if found is None:
        raise HostRefused(f"{program} does not say its version: {said.strip()}", hint=f"run {program} --version")
    return int(found[1])


def _backend(root: Path) -> str:
    """What is written as podman's, last wins; else what it has chosen; empty where it has not."""
    files = [*(root / each for each in SETTINGS), *sorted((root / MORE_SETTINGS).glob("*.conf"))]
    written = [each for file in files if isinstance(each := _network(file).get("network_backend"), str) and each]
    if written:
        return written[-1]
    try:
        return (root / CHOSEN).read_text().strip()
    except OSError:
        return ""


def _network(file: Path) -> Mapping[str, object]:
    try:
        found = tomllib.loads(file.read_text()).get("network", {})
    except (OSError, ValueError):  # podman itself says what is wrong with it
        return {}
    return found if isinstance(found, dict) else {}


def _has_network(root: Path) -> bool:
    return any(PLUGIN in each for file in (root / NETWORKS).glob("*.conf*") for each in _plugins(file))


def _plugins(file: Path) -> Iterator[str]:
    try:
        listed = json.loads(file.read_text()).get("plugins", [])
        yield from (str(each.get("type")) for each in listed)
    except (OSError, ValueError, AttributeError, TypeError):
        return
