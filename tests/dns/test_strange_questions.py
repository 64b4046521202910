"""Questions of root in a container that are none, or that claim another asker: dnsmasq hands them to the hop as they are."""

import json
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address

import pytest

from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.dns.client import EDNS, HEADER, INTERNET, PORT, RECURSION_WANTED, RESOLVER, ask, ask_once, question
from tests.testlib.dns.scripted_server import ScriptedDns, scripted_dns
from tests.testlib.instance import Instance

NAME, ADDRESS = "api.example.com", "198.18.100.1"
CHAOS, TKEY, TSIG, ANY_CLASS = 3, 249, 250, 255
PLACES = 1_000  # questions that dnsmasq lets wait, of all containers
MANY = PLACES + 200


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return (f"dns.upstreams=['{OUTSIDE.ip}']",)


@pytest.fixture
def outside_dns(cell: CellUnderTest) -> Iterator[ScriptedDns]:
    with scripted_dns(cell.outside, at=OUTSIDE.ip) as made:
        made.records = {NAME: [f"A {ADDRESS}"]}
        yield made


@pytest.fixture
def web(cell: CellUnderTest, outside_dns: ScriptedDns) -> Instance:
    """It may ask for the name."""
    del outside_dns
    rule = {"from": "acme/shop/web", "to": {"host": [NAME]}, "tcp": [443]}
    cell.policy_file("hosts.yaml", json.dumps({"policies": [rule]}))
    made = cell.run_app("acme/shop/web")
    assert ask(made, NAME).addresses == [ADDRESS]
    return made


@pytest.fixture
def mallory(cell: CellUnderTest) -> Instance:
    """It may ask for none."""
    return cell.run_app("evil/shop/mallory")


def subnet(client: IPv4Address) -> bytes:
    """EDNS' client subnet, as dnsmasq writes it."""
    return struct.pack("!4H", 8, 8, 1, 32 << 8) + client.packed


def signed(client: IPv4Address) -> bytes:
    """With a TSIG, which ends in what reads as another's address."""
    algorithm, other = b"\0", subnet(client)
    content = algorithm + struct.pack("!HIHHHHH", 0, 0, 300, 0, 0, 0, len(other)) + other
    record = b"\0" + struct.pack("!HHIH", TSIG, ANY_CLASS, 0, len(content)) + content
    return counted(question("x.example.com"), besides=1) + record


def for_a_key(client: IPv4Address) -> bytes:
    """A question that dnsmasq takes for a signed one, with another's address where its own would be."""
    record = b"\0" + struct.pack("!HHIH", EDNS, 1232, 0, len(subnet(client))) + subnet(client)
    return counted(question("x.example.com", TKEY), besides=1) + record


def of_another_class(_: IPv4Address) -> bytes:
    return question("x.example.com")[:-2] + struct.pack("!H", CHAOS)


def two(_: IPv4Address) -> bytes:
    asked = question("x.example.com")
    return counted(asked + asked[HEADER.size :], questions=2)


def too_long(client: IPv4Address) -> bytes:
    """No room is left for the address of the one that asks."""
    content = subnet(client) + struct.pack("!HH", 65_001, 460) + bytes(460)
    record = b"\0" + struct.pack("!HHIH", EDNS, 1232, 0, len(content)) + content
    return counted(question("x.example.com"), besides=1) + record


def counted(message: bytes, *, questions: int = 1, besides: int = 0) -> bytes:
    return message[:4] + struct.pack("!4H", questions, 0, 0, besides) + message[HEADER.size :]


def asked_often(node: Instance, message: bytes, times: int) -> None:
    """As often as one container may, each with a number of its own."""
    with node.datagrams() as sender:
        sender.connect((str(RESOLVER), PORT))
        for number in range(times):
            with suppress(OSError):
                sender.send(struct.pack("!H", number) + message[2:])
            time.sleep(0.0012)


@pytest.mark.parametrize("strange", [of_another_class, two, too_long])
def test_questions_without_sense_take_no_place_of_others(web: Instance, mallory: Instance, strange: object) -> None:
    """One that is not answered is waited for for ten seconds."""
    assert callable(strange)
    asked_often(mallory, strange(mallory.address), MANY)
    assert ask_once(web, NAME).addresses == [ADDRESS]


@pytest.mark.parametrize("forged", [signed, for_a_key])
def test_a_container_uses_up_nothing_of_what_another_may_ask(web: Instance, mallory: Instance, forged: object) -> None:
    assert callable(forged)
    asked_often(mallory, forged(web.address), 700)
    assert ask_once(web, NAME).addresses == [ADDRESS]


def test_a_dot_in_a_label_leads_out_of_no_domain(
    cell: CellUnderTest, outside_dns: ScriptedDns, web: Instance, mallory: Instance
) -> None:
    """`x\\.example.org`, which is a name below `org`, reads like one below `example.org`."""
    rule = {"from": "evil/shop/mallory", "to": {"host": ["*.example.org"]}, "tcp": [443]}
    cell.policy_file("hosts.yaml", json.dumps({"policies": [rule]}))
    outside_dns.records = {"x\\.example.org": [f"A {ADDRESS}"], "x.example.org": ["A 198.18.100.2"]}
    assert ask(mallory, "x.example.org").addresses == ["198.18.100.2"]
    labels = b"\x09x.example\3org\0"
    message = HEADER.pack(1, RECURSION_WANTED, 1, 0, 0, 0) + labels + struct.pack("!HH", 1, INTERNET)
    asked_often(mallory, message, 5)
    assert "x\\.example.org" not in outside_dns.asked
    del web
