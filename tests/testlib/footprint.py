"""What cellnet has made of a cell, read by other means than its own, and what is done to it meanwhile."""

import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from dataplane.envoy import admin
from host.namespace import run_in
from tests.testlib.cell import CellUnderTest

NETLINK_NETFILTER, NFT_GETGEN, NFTA_GEN_ID = 12, 0x0A10, 1
MONITORED = ("link", "address", "route", "neigh", "rule")


def rules_generation(pin: Path) -> int:
    """The number of the namespace's set of rules: the kernel counts every commit to nf_tables, whatever it changed."""

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
def kernel_events(cell: CellUnderTest) -> Iterator[list[str]]:
    """What happens to links of ours, their addresses, routes, neighbours and to rules meanwhile; complete after the block."""
    events: list[str] = []
    argv = ["nsenter", f"--net={cell.lab.netns}", "--", "ip", "-o", "monitor", *MONITORED]
    monitor = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        time.sleep(0.1)  # until it listens
        yield events
        time.sleep(0.1)
    finally:
        monitor.kill()
        output = monitor.communicate()[0].decode()
    events += [line for line in output.splitlines() if "cnet" in line or "lookup" in line]


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
        leaves=frozenset(each.name for each in (run / "identity").iterdir() if each.is_dir()),
    )


def _own(chain: str) -> str:
    """The digits of a container's chain; nothing for any other."""
    digits = chain.removeprefix("CELLNET-")
    return digits if len(digits) == 8 and digits == digits.lower() else ""


def _addresses(digits: Iterator[str]) -> frozenset[IPv4Address]:
    return frozenset(IPv4Address(int(each, 16)) for each in digits if each)


def expected(cell: CellUnderTest) -> Footprint:
    """What `cellnet ps` speaks of, and nothing else."""
    listed = list(cell.client.get("/v1/attachments").each())
    addresses = frozenset(IPv4Address(each.text("address")) for each in listed)
    names = frozenset(each.text("name") for each in listed)
    return Footprint(*[addresses] * 6, names, names)
