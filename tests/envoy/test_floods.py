"""What one container can ask of the Envoy that it shares: floods are bounded, and a bystander's calls go on beside them."""

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from functools import partial

import pytest
from google.protobuf.duration_pb2 import Duration

from dataplane.envoy import inbound
from dataplane.envoy.limits import HANDSHAKES_AT_ONCE
from dataplane.envoy.process.overload import HEAP_PER_DESCRIPTOR, LISTENERS, OWN_DESCRIPTORS
from dataplane.state import INBOUND_PORT, Allow
from host.namespace import run_in
from tests.testlib.attacks.bystander import Bystander
from tests.testlib.attacks.http2_client import CANCEL, Frame, Http2Client, frame, request_frame
from tests.testlib.attacks.tunnel_caller import TunnelCaller
from tests.testlib.certificates import identity
from tests.testlib.envoy import API, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial, exchange
from tests.testlib.patience import eventually
from tests.testlib.tunnels.pair import API_TAG, WEB_TAG, TunnelPair, serve

pytestmark = pytest.mark.usefixtures("many_files")
PATIENCE_OF_HANDSHAKES = 2  # seconds, instead of ten


class FloodedPair:
    """`web` floods `api`; meanwhile `api` calls `web`, through the same Envoy and other tunnels."""

    def __init__(self, cell: EnvoyCell, pair: EnvoyPair) -> None:
        self.cell, self.pair = cell, pair
        self.tunnels = TunnelPair(cell, pair)
        serve(cell, self.tunnels.workload("web", WEB, WEB_TAG, Allow(API_TAG, "tcp", 8000, 8999)))
        self.apps = EchoApp(pair.api.path), EchoApp(pair.web.path, address=WEB)

    def bystander(self) -> Bystander:
        return Bystander(self.bystanders_dial)

    def bystanders_dial(self) -> socket.socket:
        return dial(self.pair.api.path, address=WEB, port=8080)

    def stream(self) -> socket.socket:
        """A call of the flooding container's that is like any other."""
        return dial(self.pair.web.path, address=API, port=8080)

    def raw(self) -> Http2Client:
        """A tunnel of the flooding container's own making, with its leaf."""
        leaf = self.cell.ca.leaf(identity("acme/shop/web", address=str(WEB)))
        return Http2Client(TunnelCaller(self.pair.web.path, self.cell.ca.root.bundle(), leaf=leaf).tunnel())

    def connect_many(self, port: int, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
        """So many at once."""

        def opened() -> list[socket.socket]:
            made = [stack.enter_context(socket.socket()) for _ in range(count)]
            for each in made:
                each.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    each.connect((str(API), port))
            return made

        return run_in(self.pair.web.path, opened)

    def open_tunnels(self) -> int:
        return self._connections(INBOUND_PORT)

    def connections_to_the_app(self) -> int:
        """That of `api`; Envoy's, whoever asked for them."""
        return self._connections(8080)

    def _connections(self, port: int) -> int:
        return len(self.pair.api.run("ss", "-Htn", "state", "established", "sport", "=", f":{port}").splitlines())

    def close(self) -> None:
        for each in self.apps:
            each.close()
        self.pair.close()
        self.cell.close()


@pytest.fixture(scope="module")
def flooded(many_files: None) -> Iterator[FloodedPair]:
    """Envoy begins with the limit that there is for open files by then, as its apps do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbound, "HANDSHAKE", Duration(seconds=PATIENCE_OF_HANDSHAKES))
        cell, pair = EnvoyCell(connections=6000), EnvoyPair()
        cell.start()
        made = FloodedPair(cell, pair)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def calm(flooded: FloodedPair) -> None:
    """Begin when the flood of the test before is over: it may have filled the heap, and what is new is refused then."""
    eventually(flooded.tunnels.reaches)


@pytest.fixture
def bystander(flooded: FloodedPair) -> Iterator[Bystander]:
    """None of its calls may fail, during the flood and once it is over."""
    with flooded.bystander() as made:
        eventually(lambda: made.calls() >= 20)
        yield made
        before = made.calls()
        eventually(lambda: made.calls() >= before + 20)
    assert made.failures == []


def ended(connection: socket.socket) -> bool:
    """Whether the other end has closed it, behind whatever it had to say."""
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.usefixtures("bystander")
def test_callers_that_come_at_once_share_a_few_tunnels(flooded: FloodedPair) -> None:
    """Each worker makes one for what it takes before it has heard of another's."""
    with contextlib.ExitStack() as stack:
        callers = flooded.connect_many(8080, 1500, stack)
        eventually(lambda: len(flooded.apps[0].peers) >= 1500)
        assert not any(map(ended, callers))
        assert flooded.open_tunnels() < 150


@pytest.mark.usefixtures("bystander")
def test_of_a_flood_of_handshakes_most_are_refused_at_once(flooded: FloodedPair) -> None:
    with contextlib.ExitStack() as stack:
        flood = flooded.connect_many(INBOUND_PORT, HANDSHAKES_AT_ONCE + 1500, stack)
        eventually(lambda: sum(map(ended, flood)) >= 500)
        assert not any(map(ended, flood[:500]))  # or it was for their silence
    eventually(flooded.tunnels.reaches)  # the flood is over


@pytest.mark.usefixtures("bystander")
def test_handshakes_that_stand_still_or_never_end_are_ended(flooded: FloodedPair) -> None:
    hello = _client_hello()
    with contextlib.ExitStack() as stack:
        slow = flooded.connect_many(INBOUND_PORT, 300, stack)
        eventually(lambda: all(map(_is_connected, slow)))
        for number, each in enumerate(slow):
            with contextlib.suppress(OSError):
                # silent; half a greeting; one that announces 16 MiB and goes on for as long as it is let; no TLS
                each.send((b"", hello[: len(hello) // 2], _endless(), b"GET / HTTP/1.1\r\n" * 900)[number % 4])
        eventually(lambda: all(map(ended, slow)))
    assert flooded.tunnels.reaches()


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="api.test").do_handshake()
    return outgoing.read()


def _endless() -> bytes:
    record = struct.pack("!BHH", 22, 0x0301, 16_384)
    return record + b"\x01\xff\xff\xff" + bytes(16_380) + (record + bytes(16_384)) * 8


def _is_connected(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and _has_peer(connection)


def _has_peer(connection: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        return bool(connection.getpeername())
    return False


@pytest.mark.usefixtures("bystander")
def test_callers_that_reset_5000_calls_end_no_other_call(flooded: FloodedPair) -> None:
    """Not even others of their own container, in the same tunnels."""
    now = struct.pack("ii", 1, 0)
    with flooded.stream() as live:
        assert exchange(live, b"before") == b"before"

        def reset_many() -> None:
            for _ in range(5000):
                with socket.create_connection((str(API), 8080)) as caller:
                    caller.send(b"x")
                    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)

        run_in(flooded.pair.web.path, reset_many)
        assert exchange(live, b"after") == b"after"
    eventually(flooded.tunnels.reaches)  # once the app has taken all that waited for it


def test_what_a_caller_no_longer_waits_for_is_not_kept(flooded: FloodedPair) -> None:
    """Connections to the app that were made for it filled Envoy for minutes, and it refused every call."""
    eventually(lambda: flooded.connections_to_the_app() == 0)
    before = len(flooded.apps[0].peers)
    with contextlib.closing(flooded.raw()) as caller:
        headers = {":method": "CONNECT", ":authority": f"{API}:8080"}
        end = struct.pack("!I", CANCEL)
        caller.send(
            b"".join(
                request_frame(stream, headers) + frame(Frame.RST_STREAM, stream=stream, payload=end)
                for stream in range(1, 201, 2)
            )
        )
        eventually(lambda: len(flooded.apps[0].peers) > before)
    eventually(lambda: flooded.connections_to_the_app() == 0)


@pytest.mark.usefixtures("bystander")
def test_a_caller_that_asks_and_resets_without_end_loses_its_own_tunnel(flooded: FloodedPair) -> None:
    with flooded.stream() as live, contextlib.closing(flooded.raw()) as caller:
        assert exchange(live, b"before") == b"before"
        with contextlib.suppress(OSError):
            for _ in range(5000):
                caller.reset(caller.connect(f"{API}:8080"))
                caller.take()
        assert not caller.take(1)
        assert exchange(live, b"after") == b"after"
    assert flooded.tunnels.reaches()


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("what", ["a long header", "many headers", "headers without end", "pings", "settings"])
def test_oversize_and_endless_frames_get_no_answer_and_cost_no_other(flooded: FloodedPair, what: str) -> None:
    with contextlib.closing(flooded.raw()) as caller:
        with contextlib.suppress(OSError):
            if what == "a long header":
                caller.connect(f"{API}:8080", headers={"x-long": "x" * 12_000})
            elif what == "many headers":
                caller.connect(f"{API}:8080", headers={f"x-{number}": "x" for number in range(400)})
            elif what == "headers without end":
                caller.send(frame(Frame.HEADERS, stream=1, payload=b"\0\x01x\x01x"))
                for _ in range(50_000):
                    caller.send(frame(9, stream=1, payload=b"\0\x01x\x01x" * 100))
            else:
                kind, payload = (Frame.PING, bytes(8)) if what == "pings" else (Frame.SETTINGS, b"")
                for _ in range(200):
                    caller.send(frame(kind, payload=payload) * 500)
        eventually(lambda: not caller.take(0.1) or bool(caller.refused | caller.ended))
        assert not caller.opened
    assert flooded.tunnels.reaches()


FEW_FILES = 5000
LITTLE_MEMORY = (FEW_FILES - OWN_DESCRIPTORS - 2 * LISTENERS) * HEAP_PER_DESCRIPTOR


@pytest.fixture(scope="module")
def small(many_files: None) -> Iterator[FloodedPair]:
    """An Envoy that may take little memory, and few files."""
    cell, pair = EnvoyCell(memory=LITTLE_MEMORY), EnvoyPair()
    cell.envoy.argv = ("prlimit", f"--nofile={FEW_FILES}:{FEW_FILES}", *cell.envoy.argv)
    cell.start()
    made = FloodedPair(cell, pair)
    try:
        yield made
    finally:
        made.close()


def test_streams_without_end_do_not_take_envoys_last_file(small: FloodedPair) -> None:
    """It ends with all that it serves where it cannot open a connection to an app."""
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(small.bystanders_dial())
        assert exchange(live, b"before") == b"before"
        callers = [stack.enter_context(contextlib.closing(small.raw())) for _ in range(FEW_FILES // 110)]
        # some hundreds at a time: Envoy on a busy machine looks late, and takes 4,000; above that streams wait
        for first in range(0, len(callers), 5):
            for each in callers[first : first + 5]:
                for _ in range(120):
                    each.connect(f"{API}:8080")
                each.take()
            for each in callers[first : first + 5]:
                eventually(partial(_is_answered, each))
        assert sum(len(each.opened) for each in callers) > 500
        assert sum(len(each.refused) for each in callers) > 500
        assert exchange(live, b"after") == b"after"
    eventually(small.tunnels.reaches)


def _is_answered(caller: Http2Client) -> bool:
    return not caller.take(0.05) or len(caller.opened | caller.refused | caller.ended) >= 120
