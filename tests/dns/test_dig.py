"""A second opinion on answers: what dig makes of them, over UDP and TCP, with and without EDNS."""

from ipaddress import IPv4Address

import pytest

from tests.testlib.beds.dns import DnsBed
from tests.testlib.dns.client import RESOLVER
from tests.testlib.patience import eventually

FEW, MANY, FIRST = "api.shop.acme.cell.internal", "many.apps.internal", IPv4Address("10.255.4.0")
COUNT = 500


@pytest.fixture
def named(bed: DnsBed) -> DnsBed:
    """An app of two instances, and one of 500."""
    names: dict[str, tuple[str, ...]] = {f"10.255.1.{7 + number}": (FEW, f"{number}.{FEW}") for number in range(2)}
    bed.publish(names | {str(FIRST + number): (MANY,) for number in range(COUNT)})
    eventually(lambda: len(dig(bed, MANY).split()) == COUNT)
    return bed


def dig(bed: DnsBed, *words: str) -> str:
    """What `dig +short` prints in a container."""
    return bed.containers[0].run("dig", f"@{RESOLVER}", "+short", "+tries=2", "+time=5", *words)


@pytest.mark.parametrize("options", [[], ["+tcp"], ["+bufsize=4096"], ["+bufsize=512"], ["+noedns"], ["+qr", "+noqr"]])
def test_every_instance_is_found_by_each_way_of_asking(named: DnsBed, options: list[str]) -> None:
    assert sorted(dig(named, FEW, *options).split()) == ["10.255.1.7", "10.255.1.8"]
    assert len(set(dig(named, MANY, *options).split())) == COUNT


def test_what_is_cut_short_is_said_to_be(named: DnsBed) -> None:
    whole = named.containers[0].run("dig", f"@{RESOLVER}", "+ignore", "+bufsize=1232", MANY)
    flags = next(line for line in whole.splitlines() if "flags:" in line)
    assert {"qr", "tc"} <= set(flags.partition("flags:")[2].partition(";")[0].split())


def test_an_address_leads_back_to_its_name(named: DnsBed) -> None:
    assert dig(named, "-x", "10.255.1.7") == f"{FEW}.\n"
    assert "status: NXDOMAIN" in named.containers[0].run("dig", f"@{RESOLVER}", "-x", "10.255.1.99")


def test_one_connection_carries_several_questions(named: DnsBed) -> None:
    found = dig(named, "+tcp", "+keepopen", f"0.{FEW}", f"1.{FEW}", f"0.{FEW}")
    assert found.split() == ["10.255.1.7", "10.255.1.8", "10.255.1.7"]
