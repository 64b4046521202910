"""Which users may connect to the agent's socket for Envoy, and what a peer can do that lies or talks nonsense."""

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from dataplane.envoy.ads.ads import SERVICE, AdsServer
from dataplane.envoy.ads.resource import CLUSTER, LISTENER, Resource, ResourceKey
from dataplane.envoy.ads.table import ResourceTable
from host.errors import HostRefused, Unavailable
from tests.testlib.envoy import ENVOY_ID, LoopThread
from tests.testlib.patience import eventually

METHOD = f"/{SERVICE}/DeltaAggregatedResources"
KEY = ResourceKey(CLUSTER, "c")


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.close()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """One that others may look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="cnt-ads-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def server(loop: LoopThread, tmp_path: Path) -> Iterator[AdsServer]:
    made = AdsServer(tmp_path / "ads" / "ads.sock", gid=ENVOY_ID)
    loop.run(made.start())
    loop.call(lambda: made.publish(ResourceTable.of({KEY: Resource("1", b"")})))
    yield made
    loop.run(made.stop())


@pytest.fixture
def channel(server: AdsServer, tmp_path: Path) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"unix:{tmp_path}/ads/ads.sock") as made:
        yield made


def talk(channel: grpc.Channel, *requests: bytes) -> Iterator[DeltaDiscoveryResponse]:
    """A stream that says this and then nothing more, without ending it."""

    def words() -> Iterator[bytes]:
        yield from requests
        import time

        time.sleep(2)

    call: grpc.StreamStreamMultiCallable[bytes, DeltaDiscoveryResponse] = channel.stream_stream(
        METHOD, response_deserializer=DeltaDiscoveryResponse.FromString
    )
    return iter(call(words(), timeout=10))


def subscribe() -> bytes:
    return bytes(DeltaDiscoveryRequest(type_url=CLUSTER).SerializeToString())


def stream(channel: grpc.Channel, request: bytes, *, until: Event | None = None) -> "grpc._CallIterator[bytes]":
    """A stream of one request, whose end is at once the peer's end of it, or comes with `until`."""

    def words() -> Iterator[bytes]:
        yield request
        if until is not None:
            until.wait(10)

    call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(METHOD)
    return call(words(), timeout=10)


def test_only_root_and_envoys_group_may_enter(server: AdsServer, tmp_path: Path) -> None:
    folder, socket = (tmp_path / "ads").stat(), (tmp_path / "ads" / "ads.sock").stat()
    assert (folder.st_uid, folder.st_gid, stat.S_IMODE(folder.st_mode)) == (0, ENVOY_ID, 0o710)
    assert (socket.st_uid, socket.st_gid, stat.S_IMODE(socket.st_mode)) == (0, ENVOY_ID, 0o660)


@pytest.mark.parametrize(("uid", "gid", "may"), [(0, 0, True), (ENVOY_ID, ENVOY_ID, True), (65534, 65534, False)])
def test_the_kernel_lets_in_exactly_those(server: AdsServer, tmp_path: Path, uid: int, gid: int, may: bool) -> None:
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    argv = ["/usr/bin/python3", "-c", connect, f"{tmp_path}/ads/ads.sock"]
    done = subprocess.run(argv, user=uid, group=gid, extra_groups=[], capture_output=True, check=False)
    assert (done.returncode == 0) == may, done.stderr


def test_a_peer_that_talks_nonsense_gets_an_error_and_the_next_one_is_served(channel: grpc.Channel, server: AdsServer) -> None:
    for nonsense in (b"\xff" * 100, os.urandom(1000)):
        with pytest.raises(grpc.RpcError):
            next(talk(channel, nonsense))
    assert next(talk(channel, subscribe())).resources[0].name == "c"


def test_a_peer_that_wants_too_much_gets_an_error(channel: grpc.Channel, server: AdsServer) -> None:
    greedy = DeltaDiscoveryRequest(type_url=CLUSTER, resource_names_subscribe=[str(each) for each in range(70_000)])
    with pytest.raises(grpc.RpcError) as caught:
        next(talk(channel, greedy.SerializeToString()))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert next(talk(channel, subscribe())).resources[0].name == "c"


def test_a_method_that_is_not_served_is_an_error(channel: grpc.Channel) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/StreamAggregatedResources")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_what_a_liar_acknowledges_ends_with_its_stream(channel: grpc.Channel, loop: LoopThread, server: AdsServer) -> None:
    liar = DeltaDiscoveryRequest(type_url=CLUSTER, initial_resource_versions={"c": "1"})
    enough = Event()
    call = stream(channel, liar.SerializeToString(), until=enough)
    loop.run(server.settled({KEY: "1"}, timeout=5))
    call.cancel()
    enough.set()
    eventually(lambda: not loop.call(server.status).connected)
    with pytest.raises(Unavailable):
        loop.run(server.settled({KEY: "1"}, timeout=0.05))


def test_a_peer_that_ends_its_side_is_gone(channel: grpc.Channel, loop: LoopThread, server: AdsServer) -> None:
    call = stream(channel, subscribe())
    next(call)
    eventually(lambda: not loop.call(server.status).connected)
    assert call.code() is grpc.StatusCode.OK


def test_a_dead_agents_socket_is_replaced(loop: LoopThread, tmp_path: Path) -> None:
    import socket

    (tmp_path / "ads").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/ads/ads.sock")
    server = AdsServer(tmp_path / "ads" / "ads.sock")
    loop.run(server.start())
    loop.run(server.stop())


def test_a_path_with_blanks_and_percent_signs_works(loop: LoopThread, tmp_path: Path) -> None:
    server = AdsServer(tmp_path / "a b%20c" / "ads.sock")
    loop.run(server.start())
    assert (tmp_path / "a b%20c" / "ads.sock").is_socket()
    loop.run(server.stop())


@pytest.mark.parametrize(("path", "why"), [("x" * 120, "too long"), ("/proc/ads/ads.sock", "cannot listen on")])
def test_a_socket_that_cannot_be_made_is_refused_with_its_path(loop: LoopThread, tmp_path: Path, path: str, why: str) -> None:
    with pytest.raises(HostRefused, match=why):
        loop.run(AdsServer(tmp_path / path).start())


def test_without_a_connection_even_waiting_for_nothing_is_unavailable(loop: LoopThread, server: AdsServer) -> None:
    with pytest.raises(Unavailable, match="not connected"):
        loop.run(server.settled({ResourceKey(LISTENER, "l"): None}, timeout=0.05))


def test_an_envoy_that_has_ended_has_nothing_and_its_acknowledgement_is_not_awaited(
    channel: grpc.Channel, loop: LoopThread, server: AdsServer
) -> None:
    next(stream(channel, subscribe()))
    eventually(lambda: not loop.call(server.status).connected)
    loop.run(server.settled({ResourceKey(LISTENER, "l"): None}, timeout=0.05))
    with pytest.raises(Unavailable, match="not connected"):
        loop.run(server.settled({}, timeout=0.05))
    with pytest.raises(Unavailable, match="not connected"):
        loop.run(server.settled({ResourceKey(LISTENER, "l"): None, KEY: "1"}, timeout=0.05))
