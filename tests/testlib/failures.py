"""Failures that a test makes: processes that stop or die, a machine that is gone, another address; and one more machine."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address

from ca.issuing import issue
from lab import mounts, processes
from lab.cell import Cell, Part
from lab.folders import remove
from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.node import Node
from tests.testlib.patience import eventually
from tests.testlib.status import name_of

LEASE_SECONDS = 45.0  # a cell that died is gone for the others within 30, and this machine is busy


@contextmanager
def suspended(pid: int) -> Iterator[None]:
    """A process does nothing, and is not gone."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def terminate(cell: CellUnderTest, part: Part = Part.AGENT) -> None:
    """SIGTERM to one part, until it has ended."""
    found = cell.lab.part(part)
    assert found is not None
    found.send(signal.SIGTERM)
    eventually(lambda: not found.lives)


def kill_all_parts(cell: CellUnderTest) -> None:
    """kill -9 of all that is cellnet's there; the rest of the machine goes on."""
    running = [found for part in Part if (found := cell.lab.part(part))]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # or the first would see the others end
        for each in running:
            each.send(number)
    eventually(lambda: not any(each.lives for each in running))


def power_off(cells: CellsUnderTest, number: int) -> None:
    """The machine is gone: all processes there, and its cable."""
    kill_all_parts(cells[number])
    cells.partition(number)


def boot_anew(cell: CellUnderTest) -> None:
    """Its host, which shares no segment, loses its power and boots: all but what is on the disk goes at once, and what is
    outside too. Returns when its status is well again.
    """
    cell.close()
    root = cell.lab.root
    processes.end_all([root], mounts.namespaces_below(root), first=[])
    mounts.umount_below(root)
    shutil.rmtree(root / "run")
    for pin in (cell.lab.netns, cell.lab.outside):
        pin.unlink()
    cell.lab.wire()
    cell.start()


def foreign_change(host: Node) -> None:
    """Another program changes something beside ours, upon which the agent looks at all of it: a rule of legacy has no event."""
    host.run("ip", "link", "add", "event0", "type", "bridge")
    host.run("ip", "link", "del", "event0")


@contextmanager
def lease_kept(cells: CellsUnderTest, number: int) -> Iterator[None]:
    """A cell's lease does not end meanwhile, however slow this machine is."""
    found = cells.etcd.try_ctl("get", "-w", "fields", f"/cellnet/v1/cells/{name_of(cells[number])}/alive").out
    lease = next(int(line.split()[-1]) for line in found.splitlines() if line.startswith('"Lease"'))
    argv = ["nsenter", f"--net={cells.segment.netns}", "--", "etcdctl", "--endpoints", cells.etcd.url, "lease", "keep-alive"]
    keeping = subprocess.Popen([*argv, f"{lease:x}"], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        keeping.kill()
        keeping.wait()


def renumber(cell: CellUnderTest, address: IPv4Address | str) -> None:
    """Another underlay address: the new one comes, the default route takes it as its source, the old one goes."""
    old = cell.host.run("ip", "-4", "-o", "addr", "show", "dev", "eth0").split()[3]
    cell.host.run("sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
    cell.host.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    cell.host.run("ip", "route", "replace", "default", "via", str(OUTSIDE.ip), "src", str(address))
    cell.host.run("ip", "addr", "del", old, "dev", "eth0")


@contextmanager
def extra_cell(cells: CellsUnderTest, number: int, *overrides: str, kind: type[Cell] = Cell) -> Iterator[CellUnderTest]:
    """One more machine on the segment, with a certificate and not started; gone after the block, but not from the store."""
    folder = cells.segment.root.parent / str(number)
    folder.mkdir()
    folder.chmod(0o755)
    lab = kind(folder, number, cells.segment)
    made = CellUnderTest(lab)
    try:
        lab.make((f"store.etcd.endpoints=['{cells.etcd.url}']", *overrides))
        (folder / "var/lib/cellnet").mkdir(parents=True)
        now = datetime.now(UTC)
        issue(cells.segment.root / "ca", cell=f"cell-{number}", out=folder / "var/lib/cellnet/ca", now=now)
        yield made
    finally:
        print(f"cell {number}:\n{lab.last_words()}")
        made.close()
        made.outside.run("ip", "link", "del", lab.uplink, code=None)  # the kernel would take its time
        remove(folder)
