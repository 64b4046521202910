"""How much the processes of a test's cell hold: memory to the byte, descriptors, threads, what Envoy serves."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dataplane.envoy.process import admin
from dataplane.envoy.process.command import bundled_envoy
from tests.testlib.cell import CellUnderTest
from tests.testlib.patience import eventually

PROBE = Path(__file__).parent / "memory_probe"
# Envoy holds what was removed for half a minute, for clients that are still connected
IMPATIENT = """#!/bin/sh
before=
for word do
    shift
    [ "$before" = --drain-time-s ] && word=1
    set -- "$@" "$word"
    before=$word
done
exec {envoy} "$@"
"""


@contextmanager
def measurable() -> Iterator[str]:
    """Cells that start meanwhile can be weighed. Gives the setting for an Envoy that soon forgets what was removed."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="cellnet-weight-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        folder.chmod(0o755)  # Envoy's own user starts it
        envoy = folder / "impatient"
        shutil.copyfile(bundled_envoy(), folder / "envoy")  # it may be below a folder that is root's alone
        (folder / "envoy").chmod(0o755)
        envoy.write_text(IMPATIENT.format(envoy=folder / "envoy"))
        envoy.chmod(0o755)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(PROBE), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("CELLNET_TEST_MEMORY_PROBE", name)
        patch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")  # what a thread keeps back of freed memory would count
        yield f"envoy.binary={envoy}"


@dataclass(frozen=True)
class AgentMemory:
    """`objects` are Python's small ones, `other` the bytes of all else, both after a look for garbage; `resident` in bytes."""

    objects: int
    other: int
    resident: int


def agent_memory(cell: CellUnderTest) -> AgentMemory:
    """As of now; of a cell that was started as `weighable`."""
    pid = cell.agent_pid
    written = Path(os.environ["CELLNET_TEST_MEMORY_PROBE"], str(pid))
    written.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    eventually(written.exists)
    found = json.loads(written.read_text())
    return AgentMemory(found["objects"], found["bytes"], resident(pid))


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def envoy_allocated(cell: CellUnderTest) -> int:
    """Bytes that Envoy has allocated, as it reports."""
    return admin.server(_admin(cell), timeout=5).memory


def open_files(pid: int) -> Mapping[str, object]:
    """What a process has open, by kind of thing, and how many threads."""
    kinds: dict[str, int] = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:
            continue
        kind = target.split(":")[0].split("/cellnet.db")[0]
        kinds[kind] = kinds.get(kind, 0) + 1
    return {"open": kinds, "threads": len(os.listdir(f"/proc/{pid}/task"))}


@dataclass(frozen=True)
class EnvoyHoldings:
    """`resources` are the names of all that Envoy was given, with their kinds; `counters` is how many it keeps."""

    resources: frozenset[str]
    counters: int


def envoy_holdings(cell: CellUnderTest) -> EnvoyHoldings:
    """What it holds, what it is draining included."""
    dump = admin._get(_admin(cell), "/config_dump", timeout=5)["configs"]
    assert isinstance(dump, list)
    names = frozenset(
        f"{kind} {_name(each)}"
        for part in dump
        for kind, entries in part.items()
        if kind.startswith("dynamic_") and isinstance(entries, list)
        for each in entries
    )
    stats = admin._get(_admin(cell), "/stats?format=json", timeout=5)["stats"]
    assert isinstance(stats, list)
    return EnvoyHoldings(names, len(stats))


def _name(entry: dict[str, object]) -> str:
    inner = next((each for each in entry.values() if isinstance(each, dict) and "name" in each), {})
    return str(entry.get("name") or inner.get("name"))


def _admin(cell: CellUnderTest) -> Path:
    return cell.lab.root / "run/cellnet/envoy/admin/admin.sock"
