"""Published ports on the wire, on each backend: those of the outside get in that policies name, as long as they do."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.connections import is_alive, is_refused, is_reset
from tests.testlib.instance import Instance
from tests.testlib.node import Node, Refused, page
from tests.testlib.oracle import Rule
from tests.testlib.outside import caller, passes, served

WEB, API = "acme/shop/web", "acme/shop/api"
FILE = "ingress.yaml"
PORTS = (80, 443, 8080)


def policies(*rules: Rule) -> str:
    """A policy file; what is JSON is YAML."""
    return json.dumps({"policies": rules})


@pytest.fixture(scope="module", params=["nft", "legacy"])
def kept(request: pytest.FixtureRequest) -> Iterator[CellUnderTest]:
    with running_cell(f"firewall.backend={request.param}") as made, served(made.outside):
        yield made


@pytest.fixture
def cell(kept: CellUnderTest) -> Iterator[CellUnderTest]:
    """With no apps and no policies."""
    yield kept
    kept.tidy()


def publish(cell: CellUnderTest, app: str, *ports: str, listen: tuple[int, ...] = PORTS) -> Instance:
    """An app that answers on its ports, with these published."""
    words = [word for each in ports for word in ("--publish", each)]
    return cell.run_app(app, name=app.replace("/", "-"), port=listen, server=True, options=words)


def test_a_network_that_a_policy_loses_takes_its_connections_along_and_opens_nothing(cell: CellUnderTest) -> None:
    web = publish(cell, WEB, "7000:5000")
    wide = {"from": {"cidr": "198.18.0.0/16"}, "to": WEB, "tcp": "any"}
    cell.policy_file(FILE, policies(wide))
    gone, stays = (_pair(cell, web, address) for address in ("198.18.2.1", "198.18.3.1"))
    cell.policy_file(FILE, policies({**wide, "from": {"cidr": "198.18.0.0/16", "except": "198.18.2.0/24"}}))
    assert all(map(is_reset, gone))
    assert is_alive(*stays)
    assert f"1 connection of 198.18.2.1 to {WEB} ({web.address}) tcp/5000" in cell.log
    cell.remove_policy_file(FILE)
    assert all(map(is_reset, stays))
    assert caller(cell.outside, "198.18.3.1").connect(cell.host, 7000) is Refused


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_deleted_policy_cuts_at_both_ends_and_opens_nothing(cell: CellUnderTest, udp: bool) -> None:
    protocol = "udp" if udp else "tcp"
    web = publish(cell, WEB, f"7000:5000/{protocol}")
    cell.cellnet("policy", "allow", "198.18.0.0/16", WEB, f"{protocol}/5000", "--name", "within")
    cell.sync()
    ends = _udp_pair(cell, web) if udp else _pair(cell, web, "198.18.2.1")
    assert is_alive(*ends)
    cell.cellnet("policy", "delete", "within")
    assert all(map(is_refused if udp else is_reset, ends))
    assert not passes(caller(cell.outside, "198.18.2.1"), str(cell.host.address), protocol, 7000)


def test_a_published_port_of_tls_answers_as_the_app_to_a_client_that_verifies_it(cell: CellUnderTest) -> None:
    web = publish(cell, WEB, "7443:tls")
    cell.policy_file(FILE, policies({"from": {"cidr": "198.18.0.0/24"}, "to": WEB, "tcp": 61443}))
    good, other = (caller(cell.outside, each) for each in ("198.18.0.1", "198.18.1.1"))
    with web.tls_context().wrap_socket(good.dial(cell.host, 7443), server_hostname=str(web.address)) as connection:
        assert page(connection, "/") == "hello 198.18.0.1\n", "the caller's own address"
        names = connection.getpeercert()
    assert names is not None
    assert ("IP Address", str(web.address)) in names["subjectAltName"]
    assert other.connect(cell.host, 7443) is Refused


def test_who_is_detached_leaves_neither_a_port_nor_a_connection(cell: CellUnderTest) -> None:
    web, host = publish(cell, WEB, "7000:8080"), str(cell.host.address)
    cell.policy_file(FILE, policies({"from": {"cidr": "0.0.0.0/0"}, "to": WEB, "tcp": "any"}))
    kept = cell.outside.dial(host, 7000)
    cell.cellnet("detach", web.name)
    kept.send(b"!")
    assert is_reset(kept)
    assert not passes(cell.outside, host, "tcp", 7000)
    cell.host.listen(7000)
    assert passes(cell.outside, host, "tcp", 7000), "the host's own again"


def _pair(cell: CellUnderTest, target: Node, address: str) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection from outside."""
    with target.listen(5000) as listener:
        asking = caller(cell.outside, address).dial(cell.host, 7000)
        return asking, target.keep(listener.accept()[0])


def _udp_pair(cell: CellUnderTest, target: Node) -> tuple[socket.socket, socket.socket]:
    """The same of a flow that both ends have used."""
    asking, answering = caller(cell.outside, "198.18.2.1").datagrams(), target.datagrams(5000)
    asking.connect((str(cell.host.address), 7000))
    asking.send(b"!")
    answering.connect(answering.recvfrom(1)[1])
    return asking, answering
