"""Whether anything changes in a cell's kernel or Envoy meanwhile, seen by other means than cellnet's own."""

import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dataplane.envoy.process import admin
from dataplane.tables import ROUTE_PROTOCOL, TUNNEL_LINK
from host.namespace import run_in
from tests.testlib.cell import CellUnderTest

NETLINK_NETFILTER, NFT_GETGEN, NFTA_GEN_ID = 12, 0x0A10, 1
MONITORED = ("link", "address", "route", "neigh", "rule")
OURS = ("cnet", "lookup", TUNNEL_LINK)  # words of the lines that matter
LISTENING = 0.1  # seconds until `ip monitor` does


def rules_generation(pin: Path) -> int:
    """The number of the namespace's set of rules: the kernel counts every commit to nf_tables, also empty ones."""

    def ask() -> bytes:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as link:
            link.send(struct.pack("=IHHIIBBH", 20, NFT_GETGEN, 1, 1, 0, 0, 0, 0))
            return link.recv(4096)

    length, kind = struct.unpack_from("=HH", answer := run_in(pin, ask), 20)
    assert (length, kind & 0x3FFF) == (8, NFTA_GEN_ID)
    return int(struct.unpack_from("!I", answer, 24)[0])


def envoy_updates(cell: CellUnderTest) -> Mapping[str, tuple[str, str]]:
    """Version and time of the last update of everything that Envoy was given, by name."""
    found: dict[str, tuple[str, str]] = {}

    def collect(value: object, name: str) -> None:
        if isinstance(value, dict):
            inner = str(value.get("name", name))
            if "last_updated" in value and "version_info" in value:
                while inner in found:  # the same in another state
                    inner += "+"
                found[inner] = (str(value["version_info"]), str(value["last_updated"]))
            for each in value.values():
                collect(each, inner)
        elif isinstance(value, list):
            for each in value:
                collect(each, name)

    collect(admin._get(cell.lab.root / "run/cellnet/envoy/admin/admin.sock", "/config_dump", timeout=5), "")
    return found


@contextmanager
def kernel_events(*cells: CellUnderTest) -> Iterator[list[str]]:
    """What happens to links of ours, their addresses, routes, neighbours and to rules meanwhile; complete after the block."""
    events: list[str] = []
    with ExitStack() as stack:
        for each in cells:
            stack.enter_context(_monitored(each, events))
        time.sleep(LISTENING)
        yield events
        time.sleep(LISTENING)


@contextmanager
def _monitored(cell: CellUnderTest, events: list[str]) -> Iterator[None]:
    argv = ["nsenter", f"--net={cell.lab.netns}", "--", "ip", "-o", "monitor", *MONITORED]
    monitor = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        yield
    finally:
        monitor.kill()
        lines = monitor.communicate()[0].decode().splitlines()
    events += [f"cell {cell.lab.number}: {line}" for line in lines if any(word in line for word in OURS)]


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
    with kernel_events(*cells) as events:
        yield
    for each, (then, generation) in zip(cells, before, strict=True):
        now = tables(each)
        changed = {kind: (then[kind], now[kind]) for kind in now if now[kind] != then[kind]}
        assert not changed, f"on cell {each.lab.number}: {changed}"
        assert rules_generation(each.host.pin) == generation, f"rules of cell {each.lab.number} were written"
    assert events == []
