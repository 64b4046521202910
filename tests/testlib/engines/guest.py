"""A container of another engine on a cell: on a bridge of its own, and masqueraded by a rule that is not ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from host import namespace
from tests.testlib.cell import CellUnderTest
from tests.testlib.node import Node

ADDRESS, GATEWAY, PREFIX = IPv4Address("172.30.0.2"), IPv4Address("172.30.0.1"), 24


@contextmanager
def guest_of(cell: CellUnderTest) -> Iterator[Node]:
    """One, for a while."""
    pin, backend = cell.lab.root / "guest.net", cell.status().at("firewall").text("backend")
    rule = ("POSTROUTING", "-s", f"{GATEWAY}/{PREFIX}", "-j", "MASQUERADE")
    namespace.create(pin)
    try:
        for words in (
            "link add guests type bridge", f"addr add {GATEWAY}/{PREFIX} dev guests", "link set guests up",
            f"link add guest0 type veth peer name eth0 netns {pin}", "link set guest0 master guests", "link set guest0 up",
        ):  # fmt: skip
            cell.host.run("ip", *words.split())
        cell.host.run(f"iptables-{backend}", "-t", "nat", "-A", *rule)
        made = Node(pin, address=ADDRESS)
        for words in (f"addr add {ADDRESS}/{PREFIX} dev eth0", "link set eth0 up", f"route add default via {GATEWAY}"):
            made.run("ip", *words.split())
        yield made
        made.close()
    finally:
        cell.host.run(f"iptables-{backend}", "-t", "nat", "-D", *rule, code=None)
        cell.host.run("ip", "link", "del", "guests", code=None)
        namespace.unpin(pin)
