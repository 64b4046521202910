"""Captures of everything that leaves a container, and whether some bytes are in them."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.testlib.cells import CellsUnderTest
from tests.testlib.containers import ServingContainer
from tests.testlib.patience import eventually

LISTENS = b"listening on"


@dataclass(slots=True)
class Captures:
    """`payload` is what they may hold or not. On a cell these are all interfaces: underlay, `cellnet0`, every `cnet`."""

    folder: Path
    payload: bytes = field(default_factory=lambda: secrets.token_hex(32).encode())
    files: dict[str, Path] = field(default_factory=dict)

    def seen(self) -> list[str]:
        """Where the payload was captured."""
        time.sleep(0.3)  # tcpdump hands over what it has
        return sorted(name for name, file in self.files.items() if self.payload in file.read_bytes())


@contextmanager
def captured(cells: CellsUnderTest, *containers: ServingContainer, folder: Path) -> Iterator[Captures]:
    """On all interfaces of all cells' hosts, and on eth0 of these containers."""
    made = Captures(folder)
    with ExitStack() as stack:
        places = {}
        for number, cell in enumerate(cells, start=1):
            places[f"cell {number}"] = (cell.lab.netns, "any")
        for each in containers:
            places[f"eth0 of {each.name}"] = (each.pin, "eth0")
        for name, (namespace, interface) in places.items():
            made.files[name] = folder / f"{name.replace(' ', '-')}.pcap"
            stack.enter_context(_dump(namespace, interface, made.files[name]))
        yield made


@contextmanager
def _dump(namespace: Path, interface: str, file: Path) -> Iterator[None]:
    argv = ["nsenter", f"--net={namespace}", "--", "tcpdump", "-i", interface, "-s0", "-U", "-Z", "root", "-w", str(file)]
    log = file.with_suffix(".log")
    with log.open("wb") as sink:
        child = subprocess.Popen(argv, stdout=sink, stderr=sink)
    try:
        eventually(lambda: LISTENS in log.read_bytes())
        yield
    finally:
        child.terminate()
        child.wait(timeout=30)
