"""What passes between cells arrives whole and has its sender's address, plain and over 61443; it goes on as processes die."""

import errno
import hashlib
import json
import random
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import Unavailable
from lab.apps import log_of
from lab.cell import Cell
from tests.cells.conftest import Place
from tests.testlib import certificates
from tests.testlib.agents.prompt import PromptCell
from tests.testlib.cells import CellsUnderTest
from tests.testlib.connections import LiveConnections, echoed, is_alive, is_ended
from tests.testlib.containers import ServingContainer
from tests.testlib.in_containers import http_app
from tests.testlib.instance import TLS_PORT, Instance
from tests.testlib.node import Connected, Node, Refused, connect_at_once, one_datagram, pair, reachable_ports
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, policies, web_to_api

MEGABYTES = 10
MTU = 1450  # the underlay's 1500 without what a tunnel puts around a packet
IP_AND_UDP = 28  # octets of headers
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
EVERYTHING = web_to_api("tcp: [8080, 9000, 61443], udp: 8080")


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return PromptCell


# whole


def test_the_server_sees_the_clients_overlay_address(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB, 8080), place(2, API, 8080)
    cells[2].policy_file("shop.yaml", EVERYTHING)
    cells[1].policy_file("back.yaml", policies(f"from: {API}, to: {WEB}, tcp: [8080, 9000, 61443], udp: 9000"))
    cells[2].policy_file("udp.yaml", web_to_api("udp: 9000"))
    for client, server in ((web, api), (api, web)):
        ours, theirs = pair(client, server, 9000)
        assert (ours.getsockname(), ours.getpeername()) == (theirs.getpeername(), theirs.getsockname())
        assert theirs.getpeername()[0] == str(client.address)
        with client.datagrams() as asking, server.datagrams(9000) as answering:
            asking.sendto(b"?", (str(server.address), 9000))
            assert answering.recvfrom(16)[1] == (str(client.address), asking.getsockname()[1])
        assert client.get(server, 8080) == client.get_tls(server) == f"hello {client.address}\n"
        assert server.callers(8080) == [str(client.address)] * 2


@pytest.mark.parametrize("port", [9000, TLS_PORT])
def test_large_transfers_arrive_whole_both_ways_at_once(cells: CellsUnderTest, place: Place, port: int) -> None:
    web, api = place(1, WEB), place(2, API)
    cells[2].policy_file("shop.yaml", EVERYTHING)
    if port == TLS_PORT:
        with api.listen(8080) as listener:
            near: socket.socket = web.dial_tls(api)
            far = api.keep(listener.accept()[0])
    else:
        near, far = pair(web, api, port)
    there, back = (random.Random(seed).randbytes(MEGABYTES << 20) for seed in (1, 2))
    with ThreadPoolExecutor() as pool:
        if port == TLS_PORT:  # Python's TLS is no thing for two threads
            arrived = pool.submit(received, far)
            near.sendall(there)
            assert arrived.result() == digest(there)
            sent = pool.submit(far.sendall, back)
            assert received(near) == digest(back)
        else:
            ends = [pool.submit(received, far), pool.submit(received, near)]
            sent = pool.submit(near.sendall, there)
            far.sendall(back)
            assert [each.result() for each in ends] == [digest(there), digest(back)]
        sent.result()


def received(end: socket.socket) -> str:
    """The digest of as many octets as are sent."""
    found, left = hashlib.sha256(), MEGABYTES << 20
    while left and (got := end.recv(min(left, 1 << 16))):
        found.update(got)
        left -= len(got)
    return found.hexdigest()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def careful(client: Node, server: Node) -> socket.socket:
    """A UDP socket whose datagrams are never fragmented."""
    made = client.datagrams()
    made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    made.connect((str(server.address), 8080))
    return made


def test_datagrams_up_to_the_mtu_pass_whole_and_senders_of_larger_ones_learn_it(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API, 8080)
    cells[2].policy_file("shop.yaml", EVERYTHING)
    sender = careful(web, api)
    for size in (1400, MTU - IP_AND_UDP):
        content = random.Random(size).randbytes(size)
        sender.send(content)
        assert sender.recv(2000) == content
    with pytest.raises(OSError) as told:
        sender.send(bytes(1500 - IP_AND_UDP))
    assert told.value.errno == errno.EMSGSIZE
    assert sender.getsockopt(socket.IPPROTO_IP, IP_MTU) == MTU
    with web.datagrams() as careless:  # in fragments
        careless.connect((str(api.address), 8080))
        content = random.Random(3).randbytes(4000)
        careless.send(content)
        assert careless.recv(5000) == content


def test_a_smaller_mtu_on_the_other_cell_is_learnt_through_the_tunnel(cells: CellsUnderTest, place: Place) -> None:
    """The other agent is dead, so that nothing mends what stands for a narrower link."""
    web, api = place(1, WEB), place(2, API, 8080)
    cells[2].policy_file("shop.yaml", EVERYTHING)
    sender = careful(web, api)
    cells[2].kill("agent")
    cells[2].host.run("ip", "link", "set", f"cnet{int(api.address):08x}", "mtu", "1300")
    sender.settimeout(0.2)

    def is_told() -> bool:
        """ICMP errors are limited, so it may take more than one."""
        try:
            sender.send(bytes(1400))
            sender.recv(2000)
        except TimeoutError:
            return False
        except OSError as error:
            return error.errno == errno.EMSGSIZE
        raise AssertionError("it fits through")

    eventually(is_told)
    assert sender.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1300
    near, far = pair(web, api, 9000)
    with ThreadPoolExecutor() as pool:
        arrived = pool.submit(received, far)
        near.sendall(bytes(MEGABYTES << 20))
        assert arrived.result() == digest(bytes(MEGABYTES << 20))


# 61443


def test_61443_is_verified_across_cells_and_has_a_policy_of_its_own(cells: CellsUnderTest, place: Place) -> None:
    web, other, api = place(1, WEB), place(3, OTHER), place(2, API, 8080)
    cells[2].policy_file("shop.yaml", policies(f"from: {WEB}, to: {API}, tcp: 61443", f"from: {OTHER}, to: {API}, tcp: 8080"))
    assert (reachable_ports(web, api, (8080, TLS_PORT)), reachable_ports(other, api, (8080, TLS_PORT))) == ({TLS_PORT}, {8080})
    for name in (None, "api.shop.acme.cell.internal"):
        assert web.get_tls(api, name=name) == f"hello {web.address}\n"
    for wrong in (str(web.address), "web.shop.acme.cell.internal"):
        with pytest.raises(ssl.SSLCertVerificationError):
            web.get_tls(api, name=wrong)
    with pytest.raises(ssl.SSLCertVerificationError):
        web.get_tls(api, context=ssl.create_default_context())
    call = f'curl -sS --cacert "$CF_INSTANCE_CA" https://{api.address}:{TLS_PORT}/'
    assert web.exec("sh", "-c", call) == f"hello {web.address}\n"


def test_plain_text_on_61443_from_another_cell_never_reaches_the_app(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API, 8080)
    cells[2].policy_file("shop.yaml", EVERYTHING)
    for said in (b"GET / HTTP/1.0\r\n\r\n", b"\x00" * 64, b"SSH-2.0-OpenSSH_9.2\r\n"):
        plain = web.dial(api, TLS_PORT)
        plain.sendall(said)
        plain.settimeout(20)  # longer than a handshake may take
        assert is_ended(plain)
    assert web.get_tls(api) == f"hello {web.address}\n"
    assert api.callers(8080) == [str(web.address)]


def test_an_http_app_gets_the_identity_of_a_caller_on_another_cell(cells: CellsUnderTest, place: Place) -> None:
    web = place(1, WEB)
    script = http_app.__file__
    api = cells[2].run_app(API, sys.executable, "-I", script, "http1", "0.0.0.0", "8080", port=8080, options=["--tls-http"])
    cells[2].policy_file("shop.yaml", EVERYTHING)
    eventually(lambda: "ready" in log_of(cells[2].lab, api.name).read_text())
    seen = [fetched(web, api), fetched(web, api, '--cert "$CF_INSTANCE_CERT"', '--key "$CF_INSTANCE_KEY"')]
    assert "x-forwarded-client-cert" not in seen[0]["headers"]
    assert "URI=spiffe://cell.internal/org/acme/space/shop/app/web" in seen[1]["headers"]["x-forwarded-client-cert"]
    assert [(each["peer"], each["headers"]["x-forwarded-for"]) for each in seen] == [(str(web.address),) * 2] * 2
    foreign = web.tls_context()
    certificates.load_leaf(foreign, certificates.make_ca().leaf(certificates.identity(WEB, address=str(web.address))))
    foreign.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        web.dial_tls(api, context=foreign)


def fetched(web: ServingContainer, api: Instance, *options: str) -> dict[str, dict[str, str]]:
    """What the app says it saw of a request by curl."""
    call = f'curl -sS --http1.1 --cacert "$CF_INSTANCE_CA" {" ".join(options)} https://{api.address}:{TLS_PORT}/'
    found: dict[str, dict[str, str]] = json.loads(web.exec("sh", "-c", call))
    return found


# processes that die


def three(cells: CellsUnderTest, place: Place) -> tuple[ServingContainer, ServingContainer, ServingContainer]:
    web, api, other = place(1, WEB, 8080), place(2, API, 8080), place(3, OTHER, 8080)
    cells.allow(WEB, API, "tcp/8080", "tcp/9000", "tcp/61443", "udp/8080", at=3)
    return web, api, other


def follows_policy(web: ServingContainer, api: ServingContainer, other: ServingContainer) -> bool:
    """New connections, by their first packets: what is allowed answers, what is not is refused."""
    allowed = (connect_at_once(web, api, 8080), connect_at_once(web, api, TLS_PORT), one_datagram(web, api, 8080))
    refused = (
        connect_at_once(web, api, 8081),
        connect_at_once(api, web, 8080),
        connect_at_once(other, api, 8080),
        other.udp(api, 8080),
    )
    return set(allowed) == {Connected} and set(refused) == {Refused} and web.get_tls(api) == f"hello {web.address}\n"


@contextmanager
def unbroken(web: ServingContainer, api: ServingContainer, other: ServingContainer) -> Iterator[None]:
    """What was open goes on, and what is new is judged as ever, after each of the things that happen in the block."""
    live = LiveConnections(web, api)
    yield
    assert live.go_on()
    assert follows_policy(web, api, other)
    assert live.go_on()


def test_connections_between_cells_outlive_the_agents(cells: CellsUnderTest, place: Place) -> None:
    apps = three(cells, place)
    with unbroken(*apps):
        for number in (1, 2):
            with unbroken(*apps):
                cells[number].kill("agent")
        for number in (1, 2):
            cells[number].start()
        cells.sync()


def test_plain_connections_outlive_envoy_and_61443_comes_back_with_it(cells: CellsUnderTest, place: Place) -> None:
    web, api, other = three(cells, place)
    plain, idle, secure = web.dial(api, 8080), pair(web, api, 9000), web.dial_tls(api)
    for number in (1, 2):
        cells[number].kill("envoy")
    assert echoed(plain)
    assert is_alive(*idle)
    assert (connect_at_once(web, api, 8080), one_datagram(web, api, 8080)) == (Connected, Connected)
    assert (connect_at_once(other, api, 8080), connect_at_once(web, api, 8081)) == (Refused, Refused)
    assert is_ended(secure)
    for number in (1, 2):
        cells[number].start()
    eventually(lambda: connect_at_once(web, api, TLS_PORT) is Connected)
    assert follows_policy(web, api, other)
    assert echoed(plain)
    assert is_alive(*idle)


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_connections_between_cells_outlive_etcd(cells: CellsUnderTest, place: Place, outage: str) -> None:
    apps = three(cells, place)
    with unbroken(*apps):
        cells.etcd.kill() if outage == "killed" else cells.etcd.freeze()
        with unbroken(*apps):
            cells[2].kill("agent")  # an agent that starts during an outage knows as much
            cells[2].start(well=False)
            eventually(lambda: knows(cells, 2))
        cells.etcd.start()
        cells.wait_well()
        cells.sync()


def knows(cells: CellsUnderTest, number: int) -> bool:
    """Whether a cell's agent answers."""
    try:
        return bool(cells[number].attachments())
    except Unavailable:
        return False


def test_connections_between_cells_outlive_a_reload_of_all_rules(cells: CellsUnderTest, place: Place, tmp_path: Path) -> None:
    apps = three(cells, place)
    with unbroken(*apps):
        for number in (1, 2):
            saved = cells[number].host.run("iptables-nft-save")
            again = tmp_path / f"rules-{number}"
            again.write_text(saved)
            cells[number].host.run("iptables-nft-restore", str(again))
    with unbroken(*apps):
        for number in (1, 2):
            before = repairs(cells, number)
            cells[number].host.run("iptables-nft", "-F")
            cells[number].host.run("iptables-nft", "-t", "mangle", "-F")
            eventually(lambda: repairs(cells, number) > before)
        cells.sync()


def repairs(cells: CellsUnderTest, number: int) -> int:
    return int(cells[number].status().text("repairs"))
