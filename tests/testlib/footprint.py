"""What cellnet has made of a cell and of its containers' namespaces, read by other means than its own."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from agent.identity.keyring import TRUST
from dataplane.envoy.process import admin
from lab.cell import Part
from tests.testlib.cell import CellUnderTest
from tests.testlib.netns import Netns
from tests.testlib.patience import PATIENCE


@dataclass(frozen=True)
class Footprint:
    """Whose traces there are, by address and by name; all of one kind must agree once nothing is under way."""

    links: frozenset[IPv4Address]
    routes: frozenset[IPv4Address]
    neighbours: frozenset[IPv4Address]
    tags: frozenset[IPv4Address]
    chains: frozenset[IPv4Address]
    listeners: frozenset[IPv4Address]
    pins: frozenset[str]
    leaves: frozenset[str]


def footprint(cell: CellUnderTest) -> Footprint:
    """As of now."""
    host, run = cell.host, cell.lab.root / "run/cellnet"
    found = json.loads(host.run("ip", "-j", "link"))
    members = [line.split()[0] for line in host.run("ipset", "list", "cellnet-tags").splitlines() if " skbmark " in line]
    return Footprint(
        links=_addresses(each["ifname"][4:] for each in found if each["ifname"].startswith("cnet")),
        routes=frozenset(
            IPv4Address(each["dst"])
            for each in json.loads(host.run("ip", "-j", "route"))
            if each.get("dev", "").startswith("cnet")
        ),
        neighbours=frozenset(
            IPv4Address(each["dst"])
            for each in json.loads(host.run("ip", "-j", "neigh", "show", "nud", "permanent"))
            if each["dev"].startswith("cnet")
        ),
        tags=frozenset(map(IPv4Address, members)),
        chains=_addresses(_own(line.split()[0][1:]) for line in cell.rules() if line.startswith(":CELLNET-")),
        listeners=_addresses(each.removeprefix("tls-") for each in admin.listeners(run / "envoy/admin/admin.sock", timeout=5)),
        pins=frozenset(os.listdir(run / "netns")),
        leaves=frozenset(each.name for each in (run / "identity").iterdir() if each.is_dir() and each.name != TRUST),
    )


def _own(chain: str) -> str:
    """The digits of a container's chain; nothing for any other."""
    digits = chain.removeprefix("CELLNET-")
    return digits if len(digits) == 8 and digits == digits.lower() else ""


def _addresses(digits: Iterator[str]) -> frozenset[IPv4Address]:
    return frozenset(IPv4Address(int(each, 16)) for each in digits if each)


def expected(cell: CellUnderTest) -> Footprint:
    """The traces of exactly the attachments in `cellnet ps`."""
    listed = list(cell.client.get("/v1/attachments").each())
    addresses = frozenset(IPv4Address(each.text("address")) for each in listed)
    names = frozenset(each.text("name") for each in listed)
    return Footprint(addresses, addresses, addresses, addresses, addresses, addresses, names, names)


def traces(cell: CellUnderTest) -> dict[str, object]:
    """All that an attachment leaves on the cell, by kind."""
    host, run = cell.host, cell.lab.root / "run/cellnet"
    with closing(sqlite3.connect(f"file:{cell.lab.root}/var/lib/cellnet/cellnet.db?mode=ro", uri=True)) as ledger:
        held = ledger.execute("SELECT name, phase FROM attachments ORDER BY name").fetchall()
    return {
        "ps": cell.attachments(),
        "ledger": held,
        "links": sorted(host.run("ls", "/proc/sys/net/ipv4/conf").split()),
        "routes": host.run("ip", "-4", "route", "show", "table", "all"),
        "neighbours": host.run("ip", "-4", "neigh", "show", "nud", "permanent"),
        "rules": [line for line in cell.rules() if line[:1] in "-:*"],
        "sets": host.run("ipset", "save"),
        "pins": sorted(os.listdir(run / "netns")),
        "mounts": [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(run) in line],
        "files": sorted(str(path.relative_to(run)) for path in (run / "identity").rglob("*")),
        "envoy": cell.lab.part(Part.ENVOY) is not None,  # in the cell's namespace, not stuck in a container's
        "listeners": cell.status().at("envoy").text("listeners"),
    }


def interior(place: Netns) -> dict[str, str]:
    """All that an attachment changes in a namespace, by kind."""
    asked = {
        "links": ("ls", "/proc/sys/net/ipv4/conf"),
        "addresses": ("ip", "-4", "-o", "addr"),
        "rules": ("ip", "rule"),
        "routes": ("ip", "-4", "route", "show", "table", "all"),
        "neighbours": ("ip", "-4", "neigh", "show", "nud", "permanent"),
        "sysctls": ("sysctl", "net.ipv4.tcp_fwmark_accept", "net.ipv4.fwmark_reflect", "net.ipv4.tcp_early_demux"),
    }
    return {kind: place.run(*argv) for kind, argv in asked.items()}


@contextmanager
def nothing_left(cell: CellUnderTest, *places: Netns, swept: bool = False) -> Iterator[None]:
    """Compare the cell and some namespaces before and after; at once, or with `swept` within a few seconds."""
    before = traces(cell), [interior(each) for each in places]
    yield
    until = time.monotonic() + PATIENCE * swept
    while time.monotonic() < until and traces(cell) != before[0]:
        time.sleep(0.05)
    after = traces(cell), [interior(each) for each in places]
    changed = {kind: (before[0][kind], value) for kind, value in after[0].items() if value != before[0][kind]}
    assert not changed, f"left on the cell: {changed}"
    assert after[1] == before[1], f"left in the namespaces: {after[1]} instead of {before[1]}"
