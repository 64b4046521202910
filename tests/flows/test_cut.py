"""Revoked connections end at once at both ends, and no others."""

import contextlib
import os
import socket
import threading
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.flows import conntrack, cut, sockdiag
from dataplane.flows.sockdiag import Ends
from host.namespace import run_in
from tests.testlib.beds.conntrack import PATIENCE, ConntrackBed, pair
from tests.testlib.connections import BROKEN, is_alive, is_reset


class Talker:
    """Sends at one end of a connection until it breaks, and keeps what broke it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._errno = 0
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        try:
            while True:
                self._end.send(b"x" * 1000)
        except OSError as error:
            self._errno = error.errno or 0

    def is_reset(self) -> bool:
        """Wait for the end to break."""
        self._thread.join(PATIENCE)
        return self._errno in BROKEN


def test_an_idle_connection_is_reset_at_both_ends(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, server = pair(web, api, 8080)
    bed.permit()
    receipt = bed.sweep(api)
    assert is_reset(client)
    assert is_reset(server)
    assert [(str(f.source), str(f.destination), f.destination_port) for f in receipt.flows] == [
        (web.address, api.address, 8080)
    ]
    assert (receipt.sockets_destroyed, receipt.entries_deleted) == (1, 1)
    assert receipt.started <= receipt.finished
    assert not bed.flows()


@pytest.mark.parametrize("sender", ["client", "server"])
def test_a_connection_is_reset_at_both_ends_while_one_keeps_sending(bed: ConntrackBed, sender: str) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, server = pair(web, api, 8080)
    talking, hearing = (client, server) if sender == "client" else (server, client)
    talker = Talker(talking)
    hearing.recv(65536)
    bed.permit()
    receipt = bed.sweep()
    assert is_reset(hearing)
    assert talker.is_reset()
    assert receipt.sockets_destroyed == 1
    assert not bed.flows()


def test_other_connections_of_the_same_containers_live_on(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    kept = (web, api, "tcp", 9000), (api, web, "tcp", 8080)
    bed.permit((web, api, "tcp", 8080), *kept)
    revoked, allowed, backwards = pair(web, api, 8080), pair(web, api, 9000), pair(api, web, 8080)
    bed.permit(*kept)
    receipt = bed.sweep(api, web)
    assert all(map(is_reset, revoked))
    assert is_alive(*allowed)
    assert is_alive(*backwards)
    assert len(receipt.flows) == 1


def test_a_server_that_listens_on_both_families_is_cut_too(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, server = pair(web, api, 8080, everywhere=True)
    assert server.family == socket.AF_INET6
    bed.permit()
    assert bed.sweep(api).sockets_destroyed == 1
    assert is_reset(client)
    assert is_reset(server)


def test_a_server_bound_to_its_interface_is_cut_too(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, server = pair(web, api, 8080)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    bed.permit()
    flows, only_the_server = bed.flows(), {api.workload.address: api.workload}
    assert bed.with_table(lambda link: cut.cut(flows, only_the_server, link=link, clock=time.monotonic)).sockets_destroyed == 1
    assert is_reset(client)


def test_a_listener_survives_the_cut_of_its_connections(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    listener = api.listen(8080)
    client = web.connect(api, 8080)
    listener.accept()[0].close()
    client.close()  # gone from the sockets, still in conntrack
    bed.permit()
    receipt = bed.sweep()
    assert receipt.entries_deleted == 1
    bed.permit((web, api, "tcp", 8080))
    web.connect(api, 8080)
    assert listener.accept()


def test_a_connection_that_is_not_yet_accepted_is_cut(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    api.listen(8080)
    client = web.connect(api, 8080)
    bed.permit()
    assert bed.sweep(api).sockets_destroyed == 1
    assert is_reset(client)


@pytest.mark.parametrize("everything", [False, True], ids=["one address", "all addresses"])
def test_a_udp_flow_that_is_revoked_and_allowed_again_works_at_once(bed: ConntrackBed, everything: bool) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "udp", 5000))
    client, server = web.udp(), api.udp(5000)
    client.connect((api.address, 5000))
    client.send(b"one")
    assert server.recvfrom(9)[0] == b"one"
    bed.permit()
    receipt = bed.sweep(*() if everything else (api,))
    assert [(flow.protocol, flow.destination_port) for flow in receipt.flows] == [(socket.IPPROTO_UDP, 5000)]
    assert (receipt.sockets_destroyed, receipt.entries_deleted) == (0, 1)
    client.send(b"two")
    with pytest.raises(ConnectionRefusedError):
        client.recv(9)
    bed.permit((web, api, "udp", 5000))
    client.send(b"three")
    data, sender = server.recvfrom(9)
    assert data == b"three"
    server.sendto(b"four", sender)
    assert client.recv(9) == b"four"


def test_nothing_is_cut_where_everything_is_permitted(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    ends = pair(web, api, 8080)
    assert not bed.sweep()
    assert not bed.sweep(api)
    assert is_alive(*ends)


def test_a_sweep_of_one_address_leaves_others_alone(bed: ConntrackBed) -> None:
    web, api, db = bed.container("web"), bed.container("api"), bed.container("db")
    bed.permit((web, api, "tcp", 8080), (web, db, "tcp", 5432))
    revoked, other = pair(web, api, 8080), pair(web, db, 5432)
    bed.permit()
    bed.sweep(api)
    assert all(map(is_reset, revoked))
    assert [flow.destination_port for flow in bed.flows()] == [5432]
    bed.sweep()
    assert all(map(is_reset, other))


def test_a_published_port_is_judged_by_the_container_that_answers(bed: ConntrackBed) -> None:
    """A container that dials the host's address is still a container that reaches another."""
    web, api = bed.container("web"), bed.container("api")
    bed.host.run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
    bed.host.run("iptables-nft", "-t", "nat", "-A", "PREROUTING", "-d", "192.0.2.1", "-p", "tcp", "--dport", "80",
                 "-j", "DNAT", "--to", f"{api.address}:8080")  # fmt: skip
    bed.permit((web, api, "tcp", 8080))
    listener = api.listen(8080)
    client = web.connect("192.0.2.1", 80)
    server = api.keep(listener.accept()[0])
    bed.permit()
    for everything in (False, True):
        receipt = bed.sweep(*() if everything else (api,))
        assert bool(receipt) is not everything
    assert is_reset(client)
    assert is_reset(server)


@pytest.mark.parametrize("pin", ["missing", "a plain file"])
def test_a_pin_that_is_gone_is_no_failure(bed: ConntrackBed, tmp_path: Path, pin: str) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, _ = pair(web, api, 8080)
    bed.permit()
    path = tmp_path / "pin"
    if pin == "a plain file":
        path.touch()
    gone = replace(bed.state.workloads[api.workload.address], pin=path)
    bed.state = replace(bed.state, workloads={**bed.state.workloads, gone.address: gone})
    receipt = bed.sweep(api)
    assert receipt.entries_deleted == 1
    assert receipt.sockets_destroyed == 1  # the client's, in the namespace that is still there
    assert is_reset(client)


def test_where_no_socket_is_found_the_next_sender_is_reset(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, server = pair(web, api, 8080)
    bed.permit()
    flows = bed.flows()
    receipt = bed.with_table(lambda link: cut.cut(flows, {}, link=link, clock=time.monotonic))
    assert (receipt.sockets_destroyed, receipt.entries_deleted) == (0, 1)
    client.send(b"still there?")
    assert is_reset(client)
    server.send(b"hello?")
    assert is_reset(server)


def test_flows_of_an_address_without_a_workload_are_cut_at_the_other_end(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, _ = pair(web, api, 8080)
    bed.state = replace(bed.state, workloads={web.workload.address: web.workload})
    assert bed.sweep().sockets_destroyed == 1
    assert is_reset(client)


def test_a_sweep_of_an_address_that_lost_its_workload_cuts_flows_in_both_directions(bed: ConntrackBed) -> None:
    web, api, db = bed.container("web"), bed.container("api"), bed.container("db")
    bed.permit((web, api, "tcp", 8080), (api, db, "tcp", 5432), (web, db, "tcp", 5432))
    into, out, other = pair(web, api, 8080), pair(api, db, 5432), pair(web, db, 5432)
    left = {address: workload for address, workload in bed.state.workloads.items() if workload.name != "api"}
    bed.state = replace(bed.state, workloads=left)
    receipt = bed.sweep(api, db)
    assert (len(receipt.flows), receipt.sockets_destroyed, receipt.entries_deleted) == (2, 2, 2)
    assert all(map(is_reset, into + out))
    assert is_alive(*other)


def test_flows_with_the_host_are_left_alone(bed: ConntrackBed) -> None:
    api = bed.container("api")
    bed.host.run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
    listener = api.listen(8080)
    client = run_in(bed.host.path, lambda: socket.create_connection((api.address, 8080), source_address=("192.0.2.1", 0)))
    server = api.keep(listener.accept()[0])
    assert not bed.sweep()
    assert is_alive(client, server)
    client.close()


@pytest.mark.usefixtures("many_files")
def test_connections_that_open_during_the_sweep_do_not_outlive_it(bed: ConntrackBed) -> None:
    """Clients dial as fast as they can while the rule goes: in the end none has a connection, on the server's side neither."""
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    listener = api.listen(8080)
    stop = threading.Event()
    ends: list[socket.socket] = []

    def dial() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                ends.append(web.connect(api, 8080))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                ends.append(api.keep(listener.accept()[0]))

    dialers = [threading.Thread(target=dial, daemon=True) for _ in range(3)]
    for thread in [*dialers, threading.Thread(target=accept, daemon=True)]:
        thread.start()
    time.sleep(0.3)
    bed.permit()
    receipt = bed.sweep(api)
    left = bed.flows()
    stop.set()
    for thread in dialers:
        thread.join()
    listener.close()
    assert receipt
    assert not left
    assert ends
    assert all(map(is_reset, ends))


def test_a_client_that_dials_anew_through_the_entry_of_its_reset_connection_is_refused(bed: ConntrackBed) -> None:
    """Between the destruction of the socket and the deletion of the entry, with the same ports."""
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    listener = api.listen(8080)
    client = web.connect(api, 8080)
    ends = Ends(api.workload.address, 8080, web.workload.address, port := client.getsockname()[1])
    bed.permit()
    flows = bed.flows()
    bed.with_table(lambda link: conntrack.retire(link, flows))
    (found,) = run_in(api.netns.path, lambda: sockdiag.find([ends]))
    assert found
    assert run_in(api.netns.path, lambda: sockdiag.destroy([found])) == 1
    assert is_reset(client)
    assert [flow.id for flow in bed.flows()] == [flow.id for flow in flows]
    with pytest.raises(ConnectionRefusedError):
        web.connect(api, 8080, source_port=port)
    listener.close()


def test_an_entry_that_vanished_meanwhile_is_no_failure(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, _ = pair(web, api, 8080)
    flows = bed.flows()
    bed.host.run("conntrack", "-D")
    receipt = bed.with_table(lambda link: cut.cut(flows, bed.state.workloads, link=link, clock=time.monotonic))
    assert (receipt.sockets_destroyed, receipt.entries_deleted) == (1, 0)
    client.close()


def test_many_connections_are_cut_in_one_sweep_and_no_descriptor_leaks(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    listener = api.listen(8080)
    ends = []
    for _ in range(400):
        ends += [web.connect(api, 8080), api.keep(listener.accept()[0])]
    bed.permit()
    before = len(os.listdir("/proc/self/fd"))
    receipt = bed.sweep(api)
    assert len(os.listdir("/proc/self/fd")) == before
    assert (receipt.sockets_destroyed, receipt.entries_deleted) == (400, 400)
    assert all(map(is_reset, ends))


def test_a_receipt_is_falsy_when_nothing_was_cut_and_has_the_time_of_the_last_cut(bed: ConntrackBed) -> None:
    ticks = iter(range(100))
    nothing = bed.sweep_addresses(None, clock=lambda: float(next(ticks)))
    assert not nothing
    assert nothing.seconds == 0
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    pair(web, api, 8080)
    bed.permit()
    receipt = bed.sweep_addresses(None, clock=lambda: float(next(ticks)))
    assert receipt
    assert receipt.seconds > 0


def test_an_address_that_is_none_of_ours_can_be_swept(bed: ConntrackBed) -> None:
    nobody = IPv4Address("10.200.1.99")
    assert not bed.sweep_addresses([nobody])
    assert bed.with_table(lambda link: conntrack.delete(link, ())) == 0
