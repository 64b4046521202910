"""Taking a right back, or a container away, ends what it had between cells at both ends, and nothing else."""

import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.client.connection import attachment_address
from lab.apps import log_of
from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.connections import BROKEN, Flow, is_alive, is_ended, is_reset
from tests.testlib.failures import suspended
from tests.testlib.instance import TLS_PORT
from tests.testlib.node import Node, Refused, connect_at_once, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, policies, web_to_api

FILE = "shop.yaml"
BOTH = f"[{WEB}, {OTHER}]"
CALLING = """
import socket, sys
made = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
made.recv(1)
"""


def below(secure: socket.socket, owner: Node) -> socket.socket:
    """The TCP connection below TLS: Python's ssl reports a reset as an end."""
    return owner.keep(socket.socket(fileno=os.dup(secure.fileno())))


def by_the_file(cells: CellsUnderTest) -> Callable[[], object]:
    cells[2].policy_file(FILE, policies(f"from: {WEB}, to: {API}, tcp: [9000, 61443], udp: 9000"))
    return lambda: cells[2].remove_policy_file(FILE, sync=False)


def by_another_version_of_the_file(cells: CellsUnderTest) -> Callable[[], object]:
    by_the_file(cells)
    return lambda: cells[2].policy_file(FILE, web_to_api("tcp: 1"), sync=False)


def by_the_store(cells: CellsUnderTest) -> Callable[[], object]:
    """Given on the source's cell, and taken back on a third."""
    ports = ("tcp/9000", "tcp/61443", "udp/9000")
    cells.allow(WEB, API, *ports)
    return lambda: cells[3].cellnet("policy", "delete", WEB, API, *ports)


# rights


@pytest.mark.parametrize("right", [by_the_file, by_another_version_of_the_file, by_the_store])
def test_both_ends_of_exactly_the_revoked_flows_see_it(
    cells: CellsUnderTest, place: Place, right: Callable[[CellsUnderTest], Callable[[], object]]
) -> None:
    web, api, other = place(1, WEB), place(2, API), place(3, OTHER)
    kept = f"from: {WEB}, to: {API}, tcp: [8080, 9001], udp: 9001", f"from: {OTHER}, to: {API}, tcp: 9000, udp: 9002"
    cells[2].policy_file("kept.yaml", policies(*kept))
    cells[1].policy_file("back.yaml", policies(f"from: {API}, to: {WEB}, tcp: 9000, udp: 9000"))
    revoke = right(cells)
    live = [Flow(web, api, 9001), Flow(other, api, 9000), Flow(api, web, 9000)]
    live += [Flow(web, api, 9001, udp=True), Flow(other, api, 9002, udp=True), Flow(api, web, 9000, udp=True)]
    gone = [Flow(web, api, 9000), Flow(web, api, 9000), Flow(web, api, 9000, udp=True)]
    with api.listen(8080) as listener:
        secure = web.dial_tls(api)
        behind = api.keep(listener.accept()[0])
        assert is_alive(secure, behind)
        plain = web.dial(api, 8080), api.keep(listener.accept()[0])
    assert all(each.lives() for each in live + gone)
    revoke()
    assert all(each.is_cut() for each in gone)
    assert is_reset(below(secure, web))
    assert is_ended(behind)
    assert all(each.lives() for each in live)
    assert is_alive(*plain)
    assert {connect_at_once(web, api, port) for port in (9000, TLS_PORT)} == {Refused}


@pytest.mark.parametrize("who", ["client", "server"])
def test_both_ends_are_reset_whichever_end_keeps_sending(cells: CellsUnderTest, place: Place, who: str) -> None:
    web, api = place(1, WEB), place(2, API)
    revoke = by_the_file(cells)
    client, server = pair(web, api, 9000)
    sender, receiver = (client, server) if who == "client" else (server, client)
    going = threading.Event()

    def sent_endlessly() -> bool:
        try:
            while True:
                sender.sendall(bytes(4096))
                going.set()
        except OSError as error:
            return error.errno in BROKEN

    with ThreadPoolExecutor() as pool:
        received, sent = pool.submit(is_reset, receiver), pool.submit(sent_endlessly)
        assert going.wait(10)
        revoke()
        assert (sent.result(), received.result()) == (True, True)


def test_what_another_policy_still_allows_lives_on(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API)
    revoke = by_the_file(cells)
    cells.allow("acme/shop/*", API, "tcp/8000-9999", at=3)
    kept, gone = Flow(web, api, 9000), Flow(web, api, 9000, udp=True)
    revoke()
    assert gone.is_cut()
    assert kept.lives()


def test_a_policy_command_of_another_cell_cuts_all_over_the_cells(cells: CellsUnderTest, place: Place) -> None:
    """Three clients on three cells; one of them beside its server."""
    api = place(2, API)
    clients = [place(number, WEB, name=f"web-{number}") for number in (1, 2, 3)]
    revoke = by_the_store(cells)
    flows = [Flow(client, api, 9000) for client in clients]
    revoke()
    assert all(each.is_cut() for each in flows)


def test_what_was_opened_while_the_rules_were_gone_is_cut_by_the_repair(cells: CellsUnderTest, place: Place) -> None:
    web, other, api = place(1, WEB), place(3, OTHER), place(2, API)
    by_the_file(cells)
    kept = Flow(web, api, 9000)
    with suspended(cells[2].agent_pid):
        cells[2].host.run("iptables-nft", "-F")
        slipped = [Flow(web, api, 9002), Flow(other, api, 9003), Flow(other, api, 9004, udp=True)]
        allowed = Flow(web, api, 9000)
        assert all(each.lives() for each in (*slipped, allowed, kept))
    assert all(each.is_cut() for each in slipped)
    assert all(each.lives() for each in (allowed, kept))


# containers


@pytest.mark.parametrize("which", ["server", "client"])
def test_a_detached_end_and_the_other_one_both_see_the_end(cells: CellsUnderTest, place: Place, which: str) -> None:
    """Its namespace lives on, with its processes."""
    web, api = place(1, WEB), place(2, API)
    by_the_file(cells)
    gone, left = (api, web) if which == "server" else (web, api)
    flows = [pair(web, api, 9000) for _ in range(3)]
    gone.cell.client.delete(attachment_address(gone.name))
    for each in flows:
        assert all(map(is_reset, each))
    assert connect_at_once(left, gone.address, 9000) is Refused


def test_the_end_of_a_servers_process_is_seen_on_the_other_cell(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), cells[2].run_app(API, port=8080, server=True)
    cells[2].policy_file(FILE, web_to_api("tcp: 8080"))
    client = web.dial(api, 8080)
    client.sendall(b"echo")
    assert client.recv(4) == b"echo"
    api.kill()
    assert is_ended(client)
    eventually(lambda: cells[2].attachments() == [])
    assert connect_at_once(web, api.address, 8080) is Refused


def test_the_end_of_a_clients_process_is_seen_on_the_other_cell(cells: CellsUnderTest, place: Place) -> None:
    api = place(2, API)
    cells[2].policy_file(FILE, web_to_api("tcp: 9000"))
    with api.listen(9000) as listener:
        web = cells[1].run_app(WEB, sys.executable, "-IS", "-c", CALLING, str(api.address), "9000")
        served = api.keep(listener.accept()[0])
    eventually(lambda: "connected" in log_of(cells[1].lab, web.name).read_text())
    web.kill()
    assert is_ended(served)
