"""What cells know of each other and have in their kernels for it, by other means than their own; and what befalls a cell."""

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address

from agent.client.answer import Fields
from agent.errors import Unavailable
from ca.issuing import issue
from dataplane.tables import ROUTE_PROTOCOL, TUNNEL_LINK
from lab.cell import Cell, Part
from lab.removal import remove
from lab.segment import OUTSIDE
from tests.testlib.between import Placed
from tests.testlib.cell import CellUnderTest, eventually
from tests.testlib.cells import CellsUnderTest
from tests.testlib.footprint import rules_generation
from tests.testlib.live import echoed

LEASE_AND_MORE = 45.0  # seconds: a cell that died is gone for the others within 30, and this machine is busy
MONITORED = ("link", "address", "route", "neigh", "rule")
LISTENING = 0.1  # seconds until `ip monitor` does


class Tie:
    """A TCP connection and a UDP exchange between two containers; `server` answers on 8080."""

    def __init__(self, client: Placed, server: Placed) -> None:
        self._tcp, self._udp = client.dial(server, 8080), client.datagrams()
        self._udp.connect((str(server.address), 8080))
        assert self.holds()

    def holds(self) -> bool:
        """Whether both carry bytes there and back."""
        return echoed(self._tcp) and echoed(self._udp)

    def holds_again(self) -> bool:
        """The same, where datagrams may have been lost meanwhile: what was late is forgotten first."""
        self._udp.setblocking(False)
        with suppress(OSError):
            while self._udp.recv(16):
                pass
        self._udp.settimeout(5.0)
        with suppress(OSError):
            return self.holds()
        return False


def tables(cell: CellUnderTest) -> Mapping[str, list[str]]:
    """All that lets a cell's containers and peers through, by kind."""
    host = cell.host
    return {
        "rules": [line for line in cell.rules() if line[:1] in "-:*"],
        "sets": sorted(host.run("ipset", "save").splitlines()),
        "routes": host.run("ip", "-4", "route", "show", "proto", str(ROUTE_PROTOCOL)).splitlines(),
        "neighbours": sorted(host.run("ip", "-4", "neigh", "show", "nud", "permanent").splitlines()),
        "forwarding": sorted(host.run("bridge", "fdb", "show", "dev", TUNNEL_LINK, code=None).splitlines()),
        "tunnel": [host.run("ip", "-d", "-o", "addr", "show", "dev", TUNNEL_LINK, code=None).partition(": ")[2]],
    }


@contextmanager
def undisturbed(*cells: CellUnderTest) -> Iterator[None]:
    """Nothing that lets containers and peers through changes in these kernels meanwhile, not even for a moment."""
    before = [(tables(each), rules_generation(each.host.pin)) for each in cells]
    events: list[list[str]] = [[] for _ in cells]
    with ExitStack() as stack:
        for each, found in zip(cells, events, strict=True):
            stack.enter_context(_events(each, found))
        time.sleep(LISTENING)
        yield
        time.sleep(LISTENING)
    for each, (then, generation), found in zip(cells, before, events, strict=True):
        now = tables(each)
        changed = {kind: (then[kind], now[kind]) for kind in now if now[kind] != then[kind]}
        assert not changed, f"on cell {each.lab.number}: {changed}"
        assert rules_generation(each.host.pin) == generation, f"rules of cell {each.lab.number} were written"
        assert found == [], f"on cell {each.lab.number}"


@contextmanager
def _events(cell: CellUnderTest, found: list[str]) -> Iterator[None]:
    argv = ["nsenter", f"--net={cell.lab.netns}", "--", "ip", "-o", "monitor", *MONITORED]
    monitor = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        yield
    finally:
        monitor.kill()
        lines = monitor.communicate()[0].decode().splitlines()
    found += [line for line in lines if TUNNEL_LINK in line or "cnet" in line or "lookup" in line]


def name_of(cell: CellUnderTest) -> str:
    """What all call it."""
    return f"cell-{cell.lab.number}"


def peer(seen_by: CellUnderTest, cell: CellUnderTest) -> Fields | None:
    """What one cell's status says of another, None if it does not know it."""
    found = seen_by.status().at("peers").each()
    return next((each for each in found if each.text("name") == name_of(cell)), None)


def is_alive(cell: CellUnderTest, *, to: CellUnderTest) -> bool:
    """Whether one cell's agent is alive as another one knows."""
    found = peer(to, cell)
    return found is not None and not found.at("alive_since").missing


def tells(cell: CellUnderTest, area: str, words: str = "") -> bool:
    """Whether its status has such a problem; an agent that is just starting tells nothing."""
    with suppress(Unavailable):
        problems = list(cell.status().at("problems").each())
        return any(each.text("area") == area and words in each.text("what") for each in problems)
    return False


def is_well(cell: CellUnderTest) -> bool:
    """Whether its status has no problem; not so of an agent that is just starting."""
    with suppress(Unavailable):
        return cell.status().flag("ok")
    return False


def die(cells: CellsUnderTest, number: int) -> None:
    """The machine is gone: whatever runs there, and its cable."""
    crash(cells[number])
    cells.partition(number)


def crash(cell: CellUnderTest) -> None:
    """kill -9 of all that is cellnet's there; the rest of the machine goes on."""
    running = [found for part in (Part.UP, Part.AGENT, Part.ENVOY) if (found := cell.lab.part(part))]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # or the first would see the others end
        for each in running:
            each.send(number)
    eventually(lambda: not any(each.lives for each in running))


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


def move(cell: CellUnderTest, address: IPv4Address | str) -> None:
    """Another underlay address: the new one comes, the default route takes it as its source, the old one goes."""
    old = cell.host.run("ip", "-4", "-o", "addr", "show", "dev", "eth0").split()[3]
    cell.host.run("sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
    cell.host.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    cell.host.run("ip", "route", "replace", "default", "via", str(OUTSIDE.ip), "src", str(address))
    cell.host.run("ip", "addr", "del", old, "dev", "eth0")


@contextmanager
def one_more(cells: CellsUnderTest, number: int, *overrides: str, kind: type[Cell] = Cell) -> Iterator[CellUnderTest]:
    """Another machine on the segment, vouched for and not started; gone after the block, though not from the store."""
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
