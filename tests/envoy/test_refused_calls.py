"""What Envoy refuses is known with caller, callee, port and reason, whatever it is; a flood of it is counted, not kept."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address

import pytest
from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs

from agent.envoy.dated_certificates import LASTS, REASONS
from agent.envoy.pressure import COUNTERS, LOST, Pressure
from agent.envoy.refused_calls import BURST, EVERY, KEPT, SOURCE_BURST, SOURCE_EVERY, RefusedCalls, app_of
from agent.metrics import Metrics
from ca.leaf import Issued
from dataplane.envoy import access_log_service, container_socket, inbound
from dataplane.envoy.process import admin
from dataplane.envoy.refusal import Check, Refusal
from dataplane.state import INBOUND_PORT, Allow, Leaf, TargetHttp
from tests.testlib.attacks.http2_client import Http2Client
from tests.testlib.attacks.tunnel_caller import TunnelCaller
from tests.testlib.certificates import TODAY, client_context, identity, make_ca
from tests.testlib.envoy import API, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial, dial_tls
from tests.testlib.patience import eventually
from tests.testlib.tunnels.pair import SPACE, WEB_TAG, TunnelPair, serve

FEW = 40  # connections, and handshakes at once
OTHER, BARE = "10.255.1.9", "10.255.1.8"  # nobody's, and one at which nothing listens
NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Scene:
    """`web` may use port 8080 of `api`."""

    cell: EnvoyCell
    pair: EnvoyPair
    tunnels: TunnelPair

    def caller(self, leaf: Issued | None) -> TunnelCaller:
        return TunnelCaller(self.pair.web.path, self.cell.ca.root.bundle(), leaf=leaf)

    def own(self) -> TunnelCaller:
        return self.caller(self.cell.ca.leaf(identity("acme/shop/web", address=str(WEB))))

    def seen(self, check: Check) -> Refusal:
        """The first refusal of this kind; forgets all of the kind."""
        eventually(lambda: check in self.kinds())
        found = [each for each in self.cell.refusals if each.check is check]
        self.cell.refusals[:] = [each for each in self.cell.refusals if each.check is not check]
        return found[0]

    def kinds(self) -> set[Check]:
        return {each.check for each in self.cell.refusals}

    def calls_another_server(self, leaf: Leaf | None = None) -> Refusal:
        """What took over the address has the certificate of another one, or this; how that call is known."""
        allow = Allow(WEB_TAG, "tcp", 8080, 8080)
        leaf = leaf or self.cell.leaf("acme/shop/api", address=IPv4Address(OTHER))
        right, wrong = self.cell.state.workloads[API], self.tunnels.workload("api", API, 7, allow, leaf=leaf)
        eventually(self.tunnels.reaches)  # what a test before it has opened may still be too much
        serve(self.cell, wrong)
        try:
            # tunnels of before end when their listener's time to drain is over
            eventually(lambda: not self.tunnels.reaches())
            return self.seen(Check.SERVER)
        finally:
            serve(self.cell, right)
            eventually(self.tunnels.reaches)


@pytest.fixture(scope="module")
def kept() -> Iterator[Scene]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbound, "HANDSHAKE", Duration(seconds=1))
        patch.setattr(container_socket, "CONNECTIONS", 2 * FEW)
        patch.setattr(access_log_service, "ENTRIES_A_SECOND", 4_000)  # or a flood takes long
        cell, pair = EnvoyCell(), EnvoyPair()
        cell.start()
        tunnels, app = TunnelPair(cell, pair), EchoApp(pair.api.path)
        tunnels.allow(Allow(WEB_TAG, "tcp", 8080, 8080))
        try:
            yield Scene(cell, pair, tunnels)
        finally:
            app.close()
            pair.close()
            cell.close()


@pytest.fixture
def scene(kept: Scene) -> Scene:
    kept.cell.refusals.clear()
    return kept


def test_an_apps_own_call_to_a_port_that_it_may_not_use_is_known(scene: Scene) -> None:
    assert scene.tunnels.reaches()
    assert not scene.tunnels.reaches(9000)
    found = scene.seen(Check.RIGHTS)
    assert replace(found, words="") == Refusal(
        Check.RIGHTS, WEB, API, 9000, caller=f"{SPACE}web", verified=True, callee=f"{SPACE}api"
    )


CONNECT, ALLOWED = (":method", "CONNECT"), (":authority", f"{API}:8080")
STREAMS = {
    "a reserved port": ((CONNECT, (":authority", f"{API}:{INBOUND_PORT}")), Check.RESERVED, INBOUND_PORT),
    "another address": ((CONNECT, (":authority", f"{WEB}:8080")), Check.AUTHORITY, 8080),
    "no port": ((CONNECT, (":authority", str(API))), Check.AUTHORITY, 0),
    "a port beyond the last": ((CONNECT, (":authority", f"{API}:99999")), Check.AUTHORITY, 65535),
    "GET": (((":method", "GET"), (":scheme", "https"), (":path", "/"), ALLOWED), Check.METHOD, 8080),
    "a long header": ((CONNECT, ALLOWED, ("x", "x" * 9000)), Check.FRAMES, 0),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_a_forged_stream_is_known_by_what_is_wrong_with_it(scene: Scene, stream: str) -> None:
    headers, check, port = STREAMS[stream]
    assert scene.own().asks(*headers).status in ("", "400", "403", "431")
    found = scene.seen(check)
    assert (found.source, found.destination, found.port) == (WEB, API, port)
    assert (found.caller, found.verified) == (f"{SPACE}web", True)


def test_a_leaf_of_another_address_is_known(scene: Scene) -> None:
    leaf = scene.cell.ca.leaf(identity("acme/shop/db", address=OTHER))
    assert scene.caller(leaf).connects(f"{API}:8080").status == "403"
    found = scene.seen(Check.ADDRESS)
    assert (found.caller, found.verified, found.source, found.port) == (f"{SPACE}db", True, WEB, 8080)


def test_a_certificate_that_does_not_verify_is_known_and_what_it_says_is_no_fact(scene: Scene) -> None:
    assert scene.caller(make_ca().leaf(identity("acme/shop/db", address=str(WEB)))).connects(f"{API}:8080").status == ""
    found = scene.seen(Check.CERTIFICATE)
    assert (found.source, found.destination, found.caller, found.verified) == (WEB, API, f"{SPACE}db", False)
    assert "CERTIFICATE_VERIFY_FAILED" in found.words


def test_a_caller_without_a_certificate_is_known(scene: Scene) -> None:
    assert scene.caller(None).connects(f"{API}:8080").status == ""
    found = scene.seen(Check.CERTIFICATE)
    assert (found.source, found.caller, found.callee) == (WEB, "", f"{SPACE}api")


def test_plain_text_and_silence_are_known(scene: Scene) -> None:
    with dial(scene.pair.web.path, port=INBOUND_PORT) as caller:
        caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert "HTTP_REQUEST" in scene.seen(Check.HANDSHAKE).words
    with dial(scene.pair.web.path, port=INBOUND_PORT):
        assert "timeout" in scene.seen(Check.HANDSHAKE).words


def test_a_caller_that_goes_again_before_it_says_anything_is_not_refused(scene: Scene) -> None:
    dial(scene.pair.web.path, port=INBOUND_PORT).close()
    assert not scene.tunnels.reaches(9000)
    scene.seen(Check.RIGHTS)
    assert Check.HANDSHAKE not in scene.kinds()


def test_a_tunnel_that_ends_by_a_reset_is_not_refused(scene: Scene) -> None:
    """As when the host of its caller has gone, or its Envoy."""
    with contextlib.closing(Http2Client(scene.own().tunnel())) as caller:
        caller.connect(f"{API}:8080")
        eventually(lambda: caller.take() and bool(caller.opened))
        caller.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert not scene.tunnels.reaches(9000)
    scene.seen(Check.RIGHTS)
    with dial(scene.pair.web.path, port=INBOUND_PORT) as unspoken:
        unspoken.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert "HTTP_REQUEST" in scene.seen(Check.HANDSHAKE).words  # the first of its kind
    assert Check.HANDSHAKE not in scene.kinds()


def test_a_stream_that_its_caller_resets_is_not_refused(scene: Scene) -> None:
    with contextlib.closing(Http2Client(scene.own().tunnel())) as caller:
        for _ in range(50):
            caller.reset(caller.connect(f"{API}:8080"))
        caller.connect(f"{API}:9000")
        scene.seen(Check.RIGHTS)
    assert Check.FRAMES not in scene.kinds()


def test_connections_above_the_most_are_known(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * FEW + 10):
            stack.enter_context(dial(scene.pair.web.path, port=INBOUND_PORT))
        assert scene.seen(Check.CONNECTIONS).source == WEB


def test_a_containers_own_connections_above_the_most_are_known(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * FEW + 10):
            stack.enter_context(dial(scene.pair.web.path, port=8080))
        own = Refusal(Check.CONNECTIONS, WEB, API, 8080, words="over_connection_limit")
        eventually(lambda: own in scene.cell.refusals)


def test_a_server_that_is_not_the_one_that_was_called_is_known_at_the_callers_end(scene: Scene) -> None:
    found = scene.calls_another_server()
    assert (found.source, found.destination, found.port) == (WEB, API, 8080)
    assert "CERTIFICATE_VERIFY_FAILED" in found.words


def test_a_call_that_is_refused_or_answered_by_nobody_is_no_call_to_another_server(scene: Scene) -> None:
    """Of the first the other end speaks, and once; to one that takes no tunnel the call is known with its port."""
    scene.tunnels.allow(Allow(WEB_TAG, "tcp", 8080, 8081))
    scene.pair.api.run("ip", "address", "replace", f"{BARE}/24", "dev", "eth0")
    for address, port in ((API, 9000), (API, 8081), (IPv4Address(BARE), 8080), (IPv4Address(OTHER), 8080)) * 3:
        assert not scene.tunnels.reaches(port, address=address)
    scene.tunnels.allow(Allow(WEB_TAG, "tcp", 8080, 8080))
    eventually(lambda: len(scene.cell.refusals) >= 3)
    assert scene.calls_another_server().port == 8080
    assert [each.port for each in scene.cell.refusals if each.check is Check.RIGHTS] == [9000] * 3
    bare = [(each.source, each.destination, each.port) for each in scene.cell.refusals if each.check is Check.TUNNEL]
    assert bare == [(WEB, IPv4Address(BARE), 8080)] * 3
    assert scene.kinds() == {Check.RIGHTS, Check.TUNNEL}


@pytest.mark.parametrize(("since", "reason"), [(timedelta(hours=3), REASONS[0]), (timedelta(days=-3), REASONS[1])])
def test_a_certificate_that_is_refused_for_its_dates_is_known_by_that(scene: Scene, since: timedelta, reason: str) -> None:
    whom = identity("acme/shop/api", address=str(API))
    issued = scene.cell.ca.leaf(whom, now=TODAY + since, lifetime=timedelta(hours=24))
    found = scene.calls_another_server(Leaf(issued.chain, issued.key))
    assert reason in found.words
    recorder = Recorder()
    recorder.calls.take([found])
    (problem,) = recorder.calls.problems()
    assert str(API) in problem.what


def test_what_the_other_end_of_a_handshake_refuses_is_refused_by_that_one(scene: Scene) -> None:
    """It knows why; the end that showed the certificate has refused nobody."""
    scene.calls_another_server()
    assert not scene.tunnels.reaches(9000)
    scene.seen(Check.RIGHTS)
    assert Check.CERTIFICATE not in scene.kinds()


def test_handshakes_above_the_rate_are_known(cell: EnvoyCell, pair: EnvoyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_socket, "HANDSHAKES_AT_ONCE", FEW)
    monkeypatch.setattr(container_socket, "HANDSHAKES_A_SECOND", 10)
    TunnelPair(cell, pair)
    with contextlib.ExitStack() as stack:
        for _ in range(2 * FEW):
            stack.enter_context(dial(pair.web.path, port=INBOUND_PORT))
        eventually(lambda: any(each.check is Check.RATE for each in cell.refusals))


def test_a_containers_own_calls_above_the_rate_are_known(
    cell: EnvoyCell, pair: EnvoyPair, app: EchoApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_socket, "CALLS_AT_ONCE", FEW)
    monkeypatch.setattr(container_socket, "CALLS_A_SECOND", 10)
    TunnelPair(cell, pair)
    refused = Refusal(Check.RATE, WEB, API, 8080, words="local_ratelimit_close_over_limit")

    def is_refused() -> bool:
        dial(pair.web.path, port=8080).close()
        return refused in cell.refusals

    eventually(is_refused)
    assert app.peers


@pytest.mark.parametrize("http", TargetHttp)
def test_on_the_port_of_tls_certificates_that_do_not_count_are_known(
    cell: EnvoyCell, pair: EnvoyPair, app: EchoApp, http: TargetHttp
) -> None:
    cell.serve(pair.workload(cell.leaf(), http=http))
    bundle = cell.ca.root.bundle()
    leaves = make_ca().leaf(identity("acme/shop/web", address=str(WEB))), cell.ca.leaf(identity("acme/shop/db", address=OTHER))
    for leaf in leaves:
        with contextlib.suppress(OSError), dial_tls(pair.web.path, client_context(bundle, leaf=leaf)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
            connection.recv(1)
    eventually(lambda: len(cell.refusals) == 2)
    found = sorted((each.check, each.source, each.destination, each.caller) for each in cell.refusals)
    assert found == [(Check.ADDRESS, WEB, API, f"{SPACE}db"), (Check.CERTIFICATE, WEB, API, f"{SPACE}web")]
    assert app.peers == []


STREAMS_OF_A_FLOOD, IN_A_TUNNEL = 8_000, 400


def test_a_flood_of_refusals_is_counted_to_the_last_one_and_holds_up_no_change(scene: Scene) -> None:
    """What the agent takes, and what Envoy could not tell it."""
    pressure = Pressure(partial(admin.counters, scene.cell.envoy.settings.admin, COUNTERS), connected=lambda: True)

    def lost() -> int:
        scene.cell.loop.run(pressure.look())
        return pressure.lost()

    before = lost()
    assert LOST in admin.counters(scene.cell.envoy.settings.admin, [LOST])
    for _ in range(STREAMS_OF_A_FLOOD // IN_A_TUNNEL):
        with contextlib.closing(Http2Client(scene.own().tunnel())) as caller:
            for count in range(100, IN_A_TUNNEL + 1, 100):
                for _ in range(100):
                    caller.connect(f"{API}:9000")
                eventually(partial(_has_refused, caller, count))
    scene.tunnels.allow(Allow(WEB_TAG, "tcp", 8080, 8081))
    eventually(lambda: len(scene.cell.refusals) + lost() - before == STREAMS_OF_A_FLOOD)
    scene.tunnels.allow(Allow(WEB_TAG, "tcp", 8080, 8080))


def _has_refused(caller: Http2Client, count: int) -> bool:
    caller.take(0.001)
    return len(caller.refused) == count


# What the agent makes of them


@dataclass
class Recorder:
    """The agent's part, on a clock of its own."""

    now: float = 1000.0

    def __post_init__(self) -> None:
        self.calls = RefusedCalls(metrics=Metrics(), elapsed=lambda: self.now, now=lambda: NOW, lost=lambda: 7)


ONE = Refusal(Check.RIGHTS, WEB, API, 9000, caller=f"{SPACE}web", verified=True, callee=f"{SPACE}api")


async def test_refusals_are_counted_by_reason_logged_and_shown() -> None:
    recorder = Recorder()
    with capture_logs() as logged:
        recorder.calls.take([ONE, replace(ONE, check=Check.ADDRESS)])
    assert [(each["event"], each["reason"], each["app"], each["port"]) for each in logged] == [
        ("call_refused", "rights", "acme/shop/api", 9000),
        ("call_refused", "address", "acme/shop/api", 9000),
    ]
    row = (await recorder.calls.rows())["refusals"]
    assert (row.count, row.lost, row.reasons) == (2, 7, {"address": 1, "rights": 1})  # type: ignore[attr-defined]
    assert [each.reason for each in row.last] == ["address", "rights"]  # type: ignore[attr-defined]


def test_of_many_between_two_containers_few_are_logged_and_the_next_says_how_many_were_not() -> None:
    recorder = Recorder()
    recorder.calls.take([ONE] * 1000)
    assert len(recorder.calls.last) == BURST
    recorder.calls.take([replace(ONE, source=IPv4Address(OTHER))])
    assert recorder.calls.last[-1].source == IPv4Address(OTHER)
    recorder.now += EVERY
    recorder.calls.take([ONE] * 2)
    assert len(recorder.calls.last) == BURST + 2
    assert recorder.calls.last[-1].more == 1000 - BURST


def test_certificates_that_are_refused_for_their_dates_are_a_problem_for_a_while_that_says_whose_they_are() -> None:
    recorder, dated = Recorder(), replace(ONE, words=f"TLS_error: {REASONS[0]}")
    recorder.calls.take([ONE, replace(ONE, words="CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate")])
    assert list(recorder.calls.problems()) == []
    recorder.calls.take([replace(dated, check=Check.CERTIFICATE), replace(dated, check=Check.SERVER)])
    (problem,) = recorder.calls.problems()
    assert problem.what.endswith(f"those of {WEB}, {API}")
    recorder.now += LASTS
    assert list(recorder.calls.problems()) == []


def test_a_tunnel_that_is_not_taken_is_no_refusal_of_envoys() -> None:
    recorder = Recorder()
    recorder.calls.take([replace(ONE, check=Check.TUNNEL)])
    assert list(recorder.calls.last) == []


def test_no_more_than_so_many_are_kept() -> None:
    recorder = Recorder()
    for number in range(KEPT + 100):
        recorder.calls.take([replace(ONE, source=IPv4Address(number))])
    assert len(recorder.calls.last) == KEPT


def test_of_one_that_calls_very_many_few_are_logged_and_what_others_were_refused_stays() -> None:
    recorder = Recorder()
    recorder.calls.take([ONE])
    recorder.calls.take([replace(ONE, source=IPv4Address(OTHER), destination=IPv4Address(number)) for number in range(60_000)])
    assert len(recorder.calls.last) == 1 + SOURCE_BURST
    assert recorder.calls.last[0].source == WEB
    recorder.now += SOURCE_EVERY
    recorder.calls.take([replace(ONE, source=IPv4Address(OTHER), destination=IPv4Address(number)) for number in range(10)])
    assert len(recorder.calls.last) == 2 + SOURCE_BURST


@pytest.mark.parametrize("identity", ["", "spiffe://x", f"{SPACE}web/x", "https://cell.internal/org/a/space/b/app/c"])
def test_what_is_no_id_of_an_app_is_shown_as_it_is(identity: str) -> None:
    assert app_of(identity) == identity
