"""A namespace that its root has filled up, so that a program that reads it all is busy for ever."""

import time
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from dataplane.netlink import interior
from dataplane.tables import Interior, container_mac, host_mac
from host.netlink.socket import NetlinkSocket
from tests.testlib.beds.redirect import STRICT, redirect_bed
from tests.testlib.netns import Netns

ADDRESS = IPv4Address("10.255.1.2")


def test_a_crowd_of_routes_does_not_hold_the_agent_up(netns: Callable[[str], Netns]) -> None:
    """Reading all of them took 12 s, and an agent that starts looks into each namespace."""
    place = netns("crowded")
    place.run("ip", "link", "add", "eth0", "type", "bridge")
    wanted = Interior(
        pin=place.path,
        interface="eth0",
        mac=container_mac(ADDRESS),
        gateway_mac=host_mac(ADDRESS),
        mtu=1450,
        original_source=True,
    )
    assert interior.read(ADDRESS, wanted) is None
    interior.program(ADDRESS, wanted)
    crowd = [f"route add 20.{number >> 16}.{number >> 8 & 255}.{number & 255} dev eth0" for number in range(60_000)]
    place.run("ip", "-batch", "-", stdin="\n".join(crowd).encode())
    started = time.monotonic()
    assert interior.read(ADDRESS, wanted) == wanted
    interior.program(ADDRESS, wanted)
    assert time.monotonic() - started < 5.0


def test_a_crowd_of_rules_and_tables_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are more than ours no rule is read at all; if they come while ours are read, reading ends."""
    with redirect_bed() as bed:
        bed.become(STRICT)
        written = bed.inside.run("nft", "list", "table", "ip", "cellnet")
        tables = "".join(f"add table ip t{number}\n" for number in range(1_000))
        bed.inside.run("nft", "-f", "-", stdin=(tables + "add rule ip cellnet output accept\n" * 20_000).encode())
        read, dump = [], NetlinkSocket.dump

        def counted(link: NetlinkSocket, *asked: int | bytes, **options: object) -> list[bytes]:
            answers = dump(link, *asked, **options)  # type: ignore[arg-type]
            read.append(len(answers))
            return answers

        monkeypatch.setattr(NetlinkSocket, "dump", counted)
        assert not bed.has(STRICT)
        assert read == []
        monkeypatch.setattr("dataplane.netlink.nftables._is_chain", lambda *_: True)
        assert not bed.has(STRICT)
        assert 0 < sum(read) < 1_000
        monkeypatch.undo()
        bed.become(STRICT)
        assert bed.has(STRICT)
        assert bed.inside.run("nft", "list", "table", "ip", "cellnet") == written
