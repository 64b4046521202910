"""What root in a container can do to Envoy's sockets in there: close them, or stand in the way of new ones."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable

import pytest

from agent.envoy import listeners as module
from agent.envoy.listeners import Listeners, Served, ServedListener, TlsState
from agent.envoy.repeat_offenders import FIRST_PAUSE, TIMES
from dataplane.envoy.process import admin
from dataplane.envoy.sockets.container_ports import ContainerPort, closed_ports
from dataplane.envoy.translation import listener_key, of_workload
from dataplane.flows import sockdiag
from dataplane.state import Workload
from host.namespace import run_in
from host.netlink.messages import NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, SocketState
from host.netlink.socket import connect
from tests.testlib.certificates import client_context
from tests.testlib.envoy import API, PORT, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial_tls, exchange
from tests.testlib.patience import eventually

WORKERS = 2
BAD_GROUND = {
    "no address": ("ip", "addr", "flush", "dev", "eth0"),
    "a privileged port": (
        "sysctl", "-qw", "net.ipv4.ip_local_port_range=64000 65535", "net.ipv4.ip_unprivileged_port_start=63999",
    ),
}  # fmt: skip


class ReadBack:
    """The agent's look at what Envoy has open, with its times made short."""

    def __init__(self, cell: EnvoyCell) -> None:
        self._cell = cell
        self.repairs, self.now = 0, 1000.0
        self.looks = Listeners(self._served, ads=cell.ads, workers=WORKERS, clock=lambda: self.now, on_repair=self._count)

    def _served(self) -> Served:
        workloads = self._cell.state.workloads
        return {
            ContainerPort(each, PORT, workload.pin): ServedListener(
                each, listener_key(each), of_workload(self._cell.table, each)
            )
            for each, workload in workloads.items()
        }

    def _count(self, _what: str) -> None:
        self.repairs += 1

    def look(self) -> None:
        self._cell.loop.run(self.looks.look())


@pytest.fixture
def read_back(cell: EnvoyCell, monkeypatch: pytest.MonkeyPatch) -> ReadBack:
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 0.2)
    return ReadBack(cell)


@pytest.fixture
def served(cell: EnvoyCell, pair: EnvoyPair, app: EchoApp) -> Workload:
    workload = pair.workload(cell.leaf())
    cell.serve(workload)
    eventually(lambda: not closed(workload))
    return workload


def closed(workload: Workload) -> bool:
    return bool(closed_ports([ContainerPort(workload.address, PORT, workload.pin)], sockets=WORKERS))


def every_socket(pair: EnvoyPair) -> None:
    here = ("-ltn", "sport", "=", f":{PORT}")
    eventually(lambda: [pair.api.run("ss", "-K", *here), pair.api.run("ss", "-H", *here)][1] == "")  # one call may miss some


def one_worker(pair: EnvoyPair) -> None:
    """Half of the callers still get in, and a look for any socket finds one."""

    def destroy_one() -> int:
        asked = sockdiag._request(socket.AF_INET, bytes(sockdiag.ID.size), states=1 << SocketState.LISTEN)
        with connect(NETLINK_SOCK_DIAG) as link:
            found = map(sockdiag._socket, link.dump(SOCK_DIAG_BY_FAMILY, asked, what="listeners"))
        return next((1 for each in found if each.local_port == PORT and sockdiag.destroy([each])), 0)

    assert run_in(pair.api.path, destroy_one) == 1
    assert run_in(pair.api.path, lambda: sockdiag.listening(API, PORT))


def test_a_socket_that_was_destroyed_and_listens_again_is_no_listener(pair: EnvoyPair) -> None:
    """What it accepts is shut down from birth: Envoy does that if it gets the listener back too soon."""

    def destroyed_and_listening() -> tuple[int, bool, int]:
        with socket.create_server((str(API), PORT)) as server:
            before = sockdiag.listeners(API, PORT)
            subprocess.run(["ss", "-K", "-ltn", "sport", "=", f":{PORT}"], check=True, capture_output=True)
            server.listen()
            return before, sockdiag.listening(API, PORT), sockdiag.listeners(API, PORT)

    assert run_in(pair.api.path, destroyed_and_listening) == (1, True, 0)


@pytest.mark.parametrize("close", [every_socket, one_worker])
def test_a_port_that_root_inside_has_closed_is_open_again_and_counted(
    cell: EnvoyCell, pair: EnvoyPair, served: Workload, read_back: ReadBack, close: Callable[[EnvoyPair], None]
) -> None:
    context = client_context(cell.ca.root.bundle())
    with dial_tls(pair.web.path, context) as before:
        close(pair)
        assert closed(served)
        read_back.look()
        assert (read_back.repairs, read_back.looks.closed) == (1, frozenset())
        assert not closed(served)
        assert exchange(before, b"still here") == b"still here"
    for _ in range(10):
        with dial_tls(pair.web.path, context) as after:
            assert exchange(after, b"hello") == b"hello"


def test_what_is_open_is_left_alone(cell: EnvoyCell, served: Workload, read_back: ReadBack) -> None:
    pushed = cell.status().pushed
    read_back.look()
    assert (read_back.repairs, read_back.looks.closed, cell.status().pushed) == (0, frozenset(), pushed)


def test_a_port_that_stays_closed_is_reported_until_it_is_open(
    cell: EnvoyCell, pair: EnvoyPair, served: Workload, read_back: ReadBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPAIR_SECONDS", 0.3)
    every_socket(pair)
    os.kill(cell.envoy.pid, signal.SIGSTOP)
    try:
        read_back.look()
        assert (read_back.repairs, {port.address for port in read_back.looks.closed}) == (0, {API})
    finally:
        os.kill(cell.envoy.pid, signal.SIGCONT)
    # an Envoy that gets the removal and the listener together listens on the dead sockets once more: the next look repairs it

    def is_open_after_a_look() -> bool:
        read_back.look()
        return not closed(served)

    eventually(is_open_after_a_look)
    assert read_back.looks.closed == frozenset()


def test_a_port_that_root_inside_goes_on_closing_is_given_up_for_a_while_and_named(
    cell: EnvoyCell, pair: EnvoyPair, served: Workload, read_back: ReadBack
) -> None:
    """Without it in Envoy, whose workers would turn on the dead sockets all the while."""
    cell.loop.run(read_back.looks.await_open())
    for _ in range(TIMES):
        assert not list(read_back.looks.problems())
        every_socket(pair)
        read_back.look()
    assert (read_back.repairs, closed(served)) == (TIMES - 1, True)
    assert admin.listeners(cell.envoy.settings.admin) == frozenset()
    (problem,) = read_back.looks.problems()
    assert problem.what.endswith("-api: a program inside keeps closing Envoy's port 61443, which stays closed for a while")
    assert read_back.looks.tls_state(API) is TlsState.WAITING
    read_back.now += FIRST_PAUSE - 1
    read_back.look()
    assert closed(served)
    read_back.now += 2
    read_back.look()
    assert not closed(served)
    assert not list(read_back.looks.problems())
    assert read_back.looks.tls_state(API) is TlsState.READY


def test_nothing_is_closed_while_there_is_no_envoy(
    cell: EnvoyCell, pair: EnvoyPair, served: Workload, read_back: ReadBack
) -> None:
    cell.envoy.kill()
    eventually(lambda: not cell.status().connected)
    read_back.look()
    assert (read_back.repairs, read_back.looks.closed) == (0, frozenset())


@pytest.mark.parametrize("ground", BAD_GROUND)
def test_root_inside_cannot_make_envoy_fail_to_bind_and_keep_its_main_thread_there(
    cell: EnvoyCell, pair: EnvoyPair, ground: str
) -> None:
    """Envoy that fails stays in the namespace with that thread for good."""
    eventually(cell.envoy.is_live)
    pair.api.run(*BAD_GROUND[ground])
    workload = pair.workload(cell.leaf())
    cell.serve(workload)
    tasks = os.listdir(f"/proc/{cell.envoy.pid}/task")
    assert {os.stat(f"/proc/{cell.envoy.pid}/task/{each}/ns/net").st_ino for each in tasks} == {cell.home.path.stat().st_ino}
