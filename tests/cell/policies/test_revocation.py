"""Taking a right back cuts what it had allowed, at both ends, and nothing else; the log has the receipt."""

import json
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from host.namespace import run_in
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import BROKEN, is_alive, is_ended, is_reset
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused, pair, udp_pair
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"
IPPROTO_MPTCP = 262
FILE = "shop.yaml"
NOTHING = "policies: []\n"


def policies(*ports: str, source: str = WEB) -> str:
    """One policy for each: `tcp: 8080`."""
    return "policies:\n" + "".join(f"- {{from: {source}, to: {API}, {each}}}\n" for each in ports)


def sent_endlessly(sender: socket.socket, *, until: threading.Event) -> bool:
    """Send and send until nothing takes it any more; whether it broke by a reset."""
    try:
        while True:
            sender.sendall(bytes(4096))
            until.set()
    except OSError as error:
        return error.errno in BROKEN


def receipts(cell: CellUnderTest) -> list[dict[str, object]]:
    """What the log says was cut."""
    return [found for line in cell.log.splitlines() if '"flows_cut"' in line and (found := json.loads(line))]


def flow(client: socket.socket, server: Instance, port: int, *, protocol: str = "tcp") -> str:
    """A connection as receipts name it."""
    address, own = client.getsockname()
    return f"{protocol} {address}:{own} -> {server.address}:{port}"


def two(cell: CellUnderTest) -> tuple[Instance, Instance]:
    return cell.run_app(WEB), cell.run_app(API)


def test_both_ends_of_an_mptcp_connection_end(cell: CellUnderTest) -> None:
    """Both programs ask for MPTCP, of which a reset ends a subflow only: the client would wait for ever."""
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: 9000"))
    listener, client = (api.keep(run_in(each.pin, lambda: socket.socket(proto=IPPROTO_MPTCP))) for each in (api, web))
    listener.bind(("", 9000))
    listener.listen()
    client.connect((str(api.address), 9000))
    ends = client, api.keep(listener.accept()[0])
    assert is_alive(*ends)
    cell.remove_policy_file(FILE, sync=False)
    assert all(map(is_reset, ends))


def test_both_ends_of_an_idle_connection_are_reset(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: 9000"))
    ends = pair(web, api, 9000)
    assert is_alive(*ends)
    cell.remove_policy_file(FILE, sync=False)
    assert all(map(is_reset, ends))
    assert web.connect(api, 9000) is Refused


@pytest.mark.parametrize("who", ["client", "server"])
def test_both_ends_are_reset_whichever_end_keeps_sending(cell: CellUnderTest, who: str) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: 9000"))
    client, server = pair(web, api, 9000)
    sender, receiver = (client, server) if who == "client" else (server, client)
    going = threading.Event()
    with ThreadPoolExecutor() as pool:
        received = pool.submit(is_reset, receiver)
        sent = pool.submit(sent_endlessly, sender, until=going)
        assert going.wait(10)
        cell.remove_policy_file(FILE, sync=False)
        assert (sent.result(), received.result()) == (True, True)


def test_every_way_of_revoking_cuts(cell: CellUnderTest) -> None:
    web, api = two(cell)

    def cut_by(revoke: object) -> bool:
        client, server = pair(web, api, 9000)
        assert is_alive(client, server)
        assert callable(revoke)
        revoke()
        return is_reset(client) and is_reset(server)

    def write_in_place() -> None:
        (cell.lab.policies / FILE).write_text(policies("tcp: 9001"))

    def delete() -> None:
        cell.cellnet("policy", "delete", WEB, API, "tcp/9000")

    cell.policy_file(FILE, policies("tcp: 9000"))
    assert cut_by(lambda: cell.policy_file(FILE, NOTHING, sync=False)), "renamed over"
    cell.policy_file(FILE, policies("tcp: 9000"))
    assert cut_by(write_in_place), "written in place"
    cell.policy_file(FILE, policies("tcp: 8990-9010"))
    assert cut_by(lambda: cell.policy_file(FILE, policies("tcp: [8990-8999, 9001-9010]"), sync=False)), "out of a range"
    cell.policy_file(FILE, policies("tcp: 9000"))
    assert cut_by(lambda: cell.policy_file(FILE, policies("tcp: 9000", source="acme/shop/db"), sync=False)), "another source"
    cell.policy_file(FILE, policies("tcp: 9000"))
    assert cut_by(lambda: (cell.lab.policies / FILE).rename(cell.lab.root / FILE)), "moved away"
    cell.allow(WEB, API, "tcp/9000")
    assert cut_by(delete), "policy delete"


def test_a_policy_command_returns_when_the_connection_is_cut(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.allow(WEB, API, "tcp/9000")
    client, server = pair(web, api, 9000)
    cell.cellnet("policy", "delete", WEB, API, "tcp/9000")
    client.setblocking(False)
    server.setblocking(False)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionAbortedError):
        server.recv(1)


def test_other_connections_of_the_same_two_containers_live_on(cell: CellUnderTest) -> None:
    web, api = two(cell)
    back = f"- {{from: {API}, to: {WEB}, tcp: 9000}}\n"
    cell.policy_file(FILE, policies("tcp: [9000, 9001]", "udp: 9000") + back)
    revoked, kept, reverse = pair(web, api, 9000), pair(web, api, 9001), pair(api, web, 9000)
    asking, answering = udp_pair(web, api, 9000)
    cell.policy_file(FILE, policies("tcp: 9001", "udp: 9000") + back)
    assert all(map(is_reset, revoked))
    assert is_alive(*kept)
    assert is_alive(*reverse)
    assert exchange(asking, answering) is None


def test_what_another_policy_still_allows_lives_on(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: 9000"))
    cell.allow("acme/shop/*", API, "tcp/8000-9999")
    ends = pair(web, api, 9000)
    cell.remove_policy_file(FILE)
    assert is_alive(*ends)
    assert receipts_of(cell, ends[0], api) == []


def test_another_source_of_the_same_port_is_not_touched(cell: CellUnderTest) -> None:
    web, api = two(cell)
    other = cell.run_app("acme/shop/other")
    cell.policy_file(FILE, policies("tcp: 9000"))
    cell.policy_file("other.yaml", policies("tcp: 9000", source="acme/shop/other"))
    revoked, kept = pair(web, api, 9000), pair(other, api, 9000)
    cell.remove_policy_file(FILE)
    assert all(map(is_reset, revoked))
    assert is_alive(*kept)


def test_a_scope_that_no_longer_covers_it_cuts(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: any", source="same-space"))
    ends = pair(web, api, 9000)
    cell.policy_file(FILE, policies("tcp: any", source="acme/store/*"))
    assert all(map(is_reset, ends))


def test_the_log_has_a_receipt_of_which_flows_and_how_soon(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: 9000", "udp: 9000"))
    ends = [pair(web, api, 9000) for _ in range(3)]
    asking, _ = udp_pair(web, api, 9000)
    before = len(receipts(cell))
    cell.remove_policy_file(FILE)
    found = receipts(cell)[before:]
    assert len(found) == 1
    named = {flow(client, api, 9000) for client, _ in ends} | {flow(asking, api, 9000, protocol="udp")}
    assert set(found[0]["flows"]) == named  # type: ignore[call-overload]
    assert (found[0]["count"], found[0]["sockets"], found[0]["entries"]) == (4, 3, 4)
    assert isinstance(found[0]["milliseconds"], float)


def test_hundreds_of_connections_are_cut_at_once(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: 9000"))
    with api.listen(9000) as listener:
        listener.listen(512)
        clients = [web.dial(api, 9000) for _ in range(300)]
        servers = [api.keep(listener.accept()[0]) for _ in clients]
    cell.remove_policy_file(FILE, sync=False)
    assert all(map(is_reset, clients))
    assert all(map(is_reset, servers))


def exchange(one: socket.socket, other: socket.socket) -> Exception | None:
    """What comes of a datagram each way."""
    try:
        is_alive(one, other)
    except OSError as error:
        return error
    return None


def test_a_udp_flow_is_refused_at_once_and_the_server_cannot_go_on_either(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("udp: 9000"))
    asking, answering = udp_pair(web, api, 9000)
    cell.remove_policy_file(FILE)
    with pytest.raises(ConnectionRefusedError):
        asking.send(b"!"), asking.recv(1)
    with pytest.raises(ConnectionRefusedError):
        answering.send(b"!"), answering.recv(1)


def test_a_server_that_keeps_sending_datagrams_is_stopped(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("udp: 9000"))
    asking, answering = udp_pair(web, api, 9000)
    refused = threading.Event()

    def send() -> None:
        try:
            while True:
                answering.send(b"!")
                refused.wait(0.002)
        except ConnectionRefusedError:
            refused.set()

    thread = threading.Thread(target=send)
    thread.start()
    cell.remove_policy_file(FILE)
    thread.join(10)
    assert refused.is_set()
    asking.settimeout(0.1)
    with pytest.raises(TimeoutError):
        drain(asking)


def drain(receiver: socket.socket) -> None:
    while receiver.recv(64):
        pass


# Envoy's port


def test_61443_is_cut_when_61443_is_revoked_and_8080_lives_on(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: [8080, 61443]"))
    with api.listen(8080) as listener:
        secure = web.dial_tls(api)
        behind = api.keep(listener.accept()[0])
        plain = web.dial(api, 8080)
        served = api.keep(listener.accept()[0])
    assert is_alive(secure, behind)
    cell.policy_file(FILE, policies("tcp: 8080"))
    assert is_reset(below(secure, web))
    assert is_ended(behind)
    assert is_alive(plain, served)
    assert web.connect(api, 61443) is Refused


def test_61443_lives_on_when_8080_is_revoked(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: [8080, 61443]"))
    with api.listen(8080) as listener:
        secure = web.dial_tls(api)
        behind = api.keep(listener.accept()[0])
        plain = web.dial(api, 8080)
    cell.policy_file(FILE, policies("tcp: 61443"))
    assert is_reset(plain)
    assert is_alive(secure, behind)


def below(secure: socket.socket, owner: Instance) -> socket.socket:
    """The TCP connection below TLS: Python's ssl reports a reset as an end."""
    return owner.keep(socket.socket(fileno=os.dup(secure.fileno())))


# the container goes


def test_the_end_of_the_server_resets_its_clients(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: 9000"))
    client, _ = pair(web, api, 9000)
    cell.cellnet("detach", api.name)
    assert is_reset(client)
    assert web.connect(api, 9000) is Refused


def test_a_detached_namespace_that_lives_on_sees_its_connections_reset_too(cell: CellUnderTest) -> None:
    """Server and client: each end is the one that stays once."""
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: [9000, 61443]"))
    client, server = pair(web, api, 9000)
    cell.cellnet("detach", api.name)
    assert is_reset(client)
    assert is_reset(server)


def test_a_detached_client_and_its_server_both_see_the_reset(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: 9000"))
    client, server = pair(web, api, 9000)
    cell.cellnet("detach", web.name)
    assert is_reset(server)
    assert is_reset(client)


def test_a_killed_run_of_the_server_resets_its_clients(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True)
    cell.policy_file(FILE, policies("tcp: 8080"))
    client = web.dial(api, 8080)
    client.sendall(b"echo")
    assert client.recv(4) == b"echo"
    api.kill()
    assert is_ended(client)
    eventually(lambda: cell.attachments() == [web.name])
    assert web.connect(api, 8080) is Refused


def receipts_of(cell: CellUnderTest, client: socket.socket, server: Instance) -> list[str]:
    """The receipts that name a connection."""
    return [str(each) for each in receipts(cell) if flow(client, server, client.getpeername()[1]) in str(each)]


def test_nothing_is_looked_for_where_rights_only_grew(cell: CellUnderTest) -> None:
    web, api = two(cell)
    cell.policy_file(FILE, policies("tcp: 9000"))
    ends = pair(web, api, 9000)
    before = len(receipts(cell))
    cell.policy_file("more.yaml", policies("tcp: 9001"))
    assert is_alive(*ends)
    assert len(receipts(cell)) == before


def test_a_bad_file_in_place_of_a_good_one_cuts_nothing(cell: CellUnderTest) -> None:
    web, api = two(cell)
    path: Path = cell.policy_file(FILE, policies("tcp: 9000"))
    ends = pair(web, api, 9000)
    path.write_text("policies: [\n")
    cell.cellnet("sync", code=1)
    assert is_alive(*ends)
    assert web.connect(api, 9000) is Refused  # the app itself refuses: nothing listens there
    with api.listen(9000):
        assert web.connect(api, 9000) is Connected
