"""Envoy through its life: certificates that change, Envoys and agents that die, workloads that go and come back."""

import os
import signal
import ssl
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from dataplane.envoy.process import admin
from dataplane.envoy.sockets.container_ports import ContainerPort, await_listening
from dataplane.envoy.translation import listener_key, of_workload
from dataplane.flows.sockdiag import listening
from dataplane.state import Workload
from host.errors import Unavailable
from host.namespace import run_in
from tests.testlib.certificates import client_context, identity, make_ca
from tests.testlib.envoy import API, PORT, WEB, EnvoyCell, EnvoyPair, EnvoyProcess
from tests.testlib.envoy_traffic import EchoApp, dial_tls, exchange
from tests.testlib.patience import eventually


@pytest.fixture
def served(cell: EnvoyCell, pair: EnvoyPair, app: EchoApp) -> Workload:
    workload = pair.workload(cell.leaf())
    cell.serve(workload)
    return workload


def call(cell: EnvoyCell, pair: EnvoyPair, words: bytes = b"hello") -> bytes:
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        return exchange(connection, words)


@dataclass
class Callers:
    """Calls without a pause, in threads. `failures` is every one that did not get its words back."""

    namespace: Path
    context: ssl.SSLContext
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    serials: set[str] = field(default_factory=set)

    def __enter__(self) -> "Callers":
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(3)]
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for each in self._threads:
            each.join()

    def more_than(self, calls: int) -> bool:
        return self.calls > calls

    def _call(self) -> None:
        while not self._end.is_set():
            try:
                with dial_tls(self.namespace, self.context) as connection:
                    self.serials.add(serial(connection))
                    assert exchange(connection, b"hello") == b"hello"
                self.calls += 1
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))


def serial(connection: ssl.SSLSocket) -> str:
    certificate = connection.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


def test_a_rotation_under_constant_calls_drops_nothing(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    context = client_context(cell.ca.root.bundle())
    with dial_tls(pair.web.path, context) as old, Callers(pair.web.path, context) as callers:
        for _ in range(10):
            before = callers.calls
            cell.put(pair.workload(cell.leaf()))
            cell.settle(API)
            eventually(partial(callers.more_than, before + 5))
        assert exchange(old, b"still here") == b"still here"
        with dial_tls(pair.web.path, context) as new:
            assert serial(new) != serial(old)
    assert callers.failures == []
    assert len(callers.serials) > 5


def test_after_a_rotation_is_settled_every_new_caller_sees_the_new_certificate(
    cell: EnvoyCell, pair: EnvoyPair, served: Workload
) -> None:
    context = client_context(cell.ca.root.bundle())
    seen: set[str] = set()
    for _ in range(10):
        cell.put(pair.workload(cell.leaf()))
        cell.settle(API)
        with dial_tls(pair.web.path, context) as one, dial_tls(pair.web.path, context) as other:
            assert exchange(one, b"hello") == exchange(other, b"hello")
            seen.add(serial(other))
    assert len(seen) == 10


def test_an_envoy_that_was_killed_gets_everything_again(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    cell.envoy.kill()
    eventually(lambda: not cell.status().connected)
    with pytest.raises(Unavailable, match="not connected"):
        cell.settle(API, timeout=0.1)
    cell.envoy.start()
    await_listening(ContainerPort(API, PORT, pair.api.path), timeout=20)
    cell.settle(API)
    assert call(cell, pair) == b"hello"


def test_a_restarted_agent_pushes_nothing_and_connections_live_on(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        exchange(connection, b"before")
        for _ in range(3):
            cell.restart_ads()
            eventually(lambda: cell.status().connected)
            cell.settle(API)
            assert exchange(connection, b"during") == b"during"
            assert cell.status().pushed == 0
    assert call(cell, pair) == b"hello"


def test_what_changed_while_the_agent_was_away_is_all_that_is_pushed(
    cell: EnvoyCell, pair: EnvoyPair, served: Workload
) -> None:
    cell.loop.run(cell.ads.stop())
    cell.put(pair.workload(cell.leaf()))
    cell.restart_ads()
    cell.settle(API)
    assert cell.status().pushed == 1


def test_what_was_detached_while_the_agent_was_away_is_removed(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    cell.loop.run(cell.ads.stop())
    cell.drop(API)
    cell.restart_ads()
    cell.settle(API)
    assert admin.listeners(cell.envoy.settings.admin) == frozenset()


def test_tls_goes_on_while_there_is_no_agent(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    cell.loop.run(cell.ads.stop())
    assert call(cell, pair) == b"hello"


def test_a_removed_workload_has_no_socket_any_more(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    cell.drop(API)
    cell.settle(API)
    eventually(lambda: not run_in(pair.api.path, lambda: listening(API, PORT)))
    with pytest.raises(Unavailable, match="nothing listens"):
        await_listening(ContainerPort(API, PORT, pair.api.path), timeout=0)


def test_workloads_come_and_go_a_hundred_times(cell: EnvoyCell, pair: EnvoyPair, app: EchoApp) -> None:
    for _ in range(100):
        cell.serve(pair.workload(cell.leaf()))
        assert call(cell, pair) == b"hello"
        cell.drop(API)
        cell.settle(API)


def test_the_next_workload_of_an_address_is_served_in_its_own_namespace(
    cell: EnvoyCell, pair: EnvoyPair, served: Workload
) -> None:
    successor = EnvoyPair()
    app = EchoApp(successor.api.path)
    try:
        cell.serve(successor.workload(cell.leaf("acme/shop/other", names=("api.test",))))
        assert call(cell, successor) == b"hello"
        assert app.peers == [str(WEB)]
        eventually(lambda: not run_in(pair.api.path, lambda: listening(API, PORT)))
    finally:
        app.close()
        successor.close()


def test_a_successor_never_shows_the_certificate_of_its_predecessor_at_the_address(
    cell: EnvoyCell, pair: EnvoyPair, served: Workload
) -> None:
    context = client_context(cell.ca.root.bundle())
    with dial_tls(pair.web.path, context) as connection:
        seen = {serial(connection)}
    for count in range(2, 12):
        cell.drop(API)
        cell.settle(API)
        cell.serve(pair.workload(cell.leaf()))
        with dial_tls(pair.web.path, context) as connection:
            seen.add(serial(connection))
        assert len(seen) == count


def test_one_workload_changes_and_the_others_connections_live_on(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    web = Workload("web", WEB, 8, pair.web.path, listeners=served.listeners)
    cell.serve(web)
    before = cell.status().pushed
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        exchange(connection, b"hello")
        cell.drop(WEB)
        cell.settle(WEB)
        assert exchange(connection, b"hello") == b"hello"
    assert cell.status().pushed == before + 2


def test_a_new_trust_bundle_is_taken_without_dropping_anything(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    other = make_ca()
    with dial_tls(pair.web.path, client_context(cell.ca.root.bundle())) as connection:
        cell.publish(trust_bundle=cell.ca.root.bundle() + other.root.bundle())
        cell.settle(API)
        assert exchange(connection, b"hello") == b"hello"
    context = client_context(cell.ca.root.bundle(), leaf=other.leaf(identity("acme/shop/web")))
    with dial_tls(pair.web.path, context) as connection:
        assert exchange(connection, b"hello") == b"hello"


def test_two_envoys_of_one_agent_do_not_mix(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    """The old one that is about to go, and its successor, which cannot bind yet: what counts is the newest's word."""
    folder = cell.folder / "second"
    folder.mkdir(mode=0o755)
    second = EnvoyProcess(cell.home, folder)
    second.argv = [each.replace(str(folder / "ads"), str(cell.folder / "ads")) for each in second.argv]
    before = cell.status()
    try:
        second.start()
        eventually(lambda: cell.status().acknowledged >= before.acknowledged + 4)
        cell.put(pair.workload(cell.leaf()))
        cell.settle(API)
        assert cell.status().refused == {}
    finally:
        second.kill()
    cell.settle(API)
    assert call(cell, pair) == b"hello"


def test_envoy_has_two_capabilities_and_cannot_get_more(cell: EnvoyCell) -> None:
    eventually(cell.envoy.is_live)
    status = Path(f"/proc/{cell.envoy.pid}/status").read_text()
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    # CAP_NET_BIND_SERVICE is 10, CAP_NET_RAW 13, CAP_SYS_ADMIN 21
    three = f"{1 << 10 | 1 << 13 | 1 << 21:016x}"
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {three}
    assert found["NoNewPrivs"] == "1"
    assert found["Uid"].split() == ["64001"] * 4
    assert found["Groups"].strip() == ""


def test_no_key_is_in_the_log_on_the_command_line_or_in_the_configuration_dump(
    cell: EnvoyCell, pair: EnvoyPair, served: Workload
) -> None:
    secrets = [line for line in served.listeners[0].leaf.key.decode().splitlines() if not line.startswith("-")]
    table = repr(cell.table) + str(cell.table) + repr(cell.state) + " ".join(cell.envoy.argv)
    dump = pair.web.run("curl", "-sS", "--unix-socket", str(cell.envoy.settings.admin), "http://envoy/config_dump?include_eds")
    assert "tls-0aff0103" in dump
    for secret in secrets:
        assert secret not in dump
        assert secret not in cell.envoy.log.read_text()
        assert secret not in table


def test_envoy_gives_the_memory_that_it_does_not_need_back_to_the_host(cell: EnvoyCell) -> None:
    """After five minutes without need; the thread for it is there only where that was asked for."""
    threads = Path(f"/proc/{cell.envoy.pid}/task")
    eventually(lambda: any((each / "comm").read_text().strip() == "TcmallocProcess" for each in threads.iterdir()))


def test_the_admin_socket_gives_version_and_memory_to_root_alone(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    found = admin.server(cell.envoy.settings.admin)
    assert (found.version, found.state) == ("1.40.0", "LIVE")
    assert found.memory > 1_000_000
    assert admin.listeners(cell.envoy.settings.admin) == {listener_key(API).name}
    assert cell.envoy.settings.admin.stat().st_mode & 0o777 == 0o600


def test_an_admin_socket_without_envoy_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        admin.server(tmp_path / "admin.sock")


def test_an_envoy_that_does_not_answer_is_named_with_what_it_lacks(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    os.kill(cell.envoy.pid, signal.SIGSTOP)
    try:
        cell.put(pair.workload(cell.leaf()))
        with pytest.raises(Unavailable, match="has not taken secret leaf-0aff0103 within"):
            cell.settle(API, timeout=0.2)
    finally:
        os.kill(cell.envoy.pid, signal.SIGCONT)
    cell.settle(API)


def test_a_waiter_for_an_overtaken_version_gets_the_later_one(cell: EnvoyCell, pair: EnvoyPair, served: Workload) -> None:
    first = of_workload(cell.table, API)
    cell.put(pair.workload(cell.leaf()))
    cell.settle_versions(first)
    assert cell.status().acknowledged == cell.status().pushed
