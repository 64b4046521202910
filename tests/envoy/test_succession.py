"""Two Envoys side by side, while one hands over to the other: who is asked, whose sockets are whose, and who ends."""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from agent.config.config import Config
from agent.config.load import load
from agent.envoy import succession
from agent.envoy.leaving_envoys import LeavingEnvoys
from agent.errors import Unavailable
from dataplane.envoy.ads.ads import SERVICE, AdsServer
from dataplane.envoy.ads.resource import EXTENSION, LISTENER, Resource, ResourceKey
from dataplane.envoy.ads.stream import STARTED
from dataplane.envoy.ads.table import ResourceTable
from dataplane.envoy.process import admin
from dataplane.envoy.sockets.container_ports import ContainerPort
from dataplane.envoy.sockets.foreign import ForeignSockets
from dataplane.netlink.interior import FOR_ENVOY
from host import sysctl
from host.namespace import run_in
from tests.testlib.envoy import API, PORT, EnvoyCell, EnvoyPair, LoopThread
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually

RIGHTS, SERVED = ResourceKey(EXTENSION, "rights"), ResourceKey(LISTENER, "listener")
QUEUED = 40


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.close()


def connected(channel: grpc.Channel, *, started: float, version: str) -> "grpc._CallIterator[bytes]":
    """An Envoy that has this version of the rights, and answers nothing that it is sent."""
    ended = threading.Event()

    def words() -> Iterator[bytes]:
        request = DeltaDiscoveryRequest(
            type_url=EXTENSION, resource_names_subscribe=["rights"], initial_resource_versions={"rights": version}
        )
        request.node.metadata.update({STARTED: started})
        yield request.SerializeToString()
        ended.wait(30)

    call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{SERVICE}/DeltaAggregatedResources")
    made = call(words(), timeout=30)
    made.add_callback(ended.set)
    return made


def test_the_envoy_that_was_started_last_is_asked_and_all_are_about_rights(loop: LoopThread, tmp_path: Path) -> None:
    server = AdsServer(tmp_path / "ads" / "ads.sock")
    loop.run(server.start())
    loop.call(lambda: server.publish(ResourceTable.of({RIGHTS: Resource("2", b"")})))
    with grpc.insecure_channel(f"unix:{tmp_path}/ads/ads.sock") as channel:
        newer = connected(channel, started=2, version="2")
        eventually(lambda: loop.call(lambda: server.has({RIGHTS: "2"})))
        assert not loop.call(lambda: server.lacks(RIGHTS, "2", needed_by=SERVED))
        older = connected(channel, started=1, version="1")
        eventually(lambda: loop.call(lambda: server.lacks(RIGHTS, "2", needed_by=SERVED)))
        assert loop.call(lambda: server.has({RIGHTS: "2"}))
        older.cancel()
        eventually(lambda: not loop.call(lambda: server.lacks(RIGHTS, "2", needed_by=SERVED)))
        newer.cancel()
    loop.run(server.stop())


def test_callers_that_are_not_accepted_yet_go_to_the_envoy_beside(netns: Callable[[str], Netns]) -> None:
    place = netns("api").path
    run_in(place, lambda: sysctl.write(FOR_ENVOY))

    def listener() -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", PORT))
        made.listen(QUEUED)
        made.settimeout(5)
        return made

    def handed_over() -> int:
        former = listener()
        with listener() as newer:
            callers = [socket.create_connection(("127.0.0.1", PORT), timeout=5) for _ in range(QUEUED)]
            former.close()
            taken = [newer.accept()[0] for _ in callers]
            for each in (*callers, *taken):
                each.close()
            return len(taken)

    assert run_in(place, handed_over) == QUEUED


def config_of(cell: EnvoyCell, folder: Path) -> Config:
    made = load(folder / "agent.yaml", root=folder, hostname="here", required=False)
    return replace(made, paths=replace(made.paths, envoy_admin=cell.envoy.settings.admin))


def test_a_second_envoy_that_does_not_come_to_serve_leaves_the_first_as_it_was(cell: EnvoyCell, tmp_path: Path) -> None:
    eventually(cell.envoy.is_live)
    config, times = config_of(cell, tmp_path), count(0.0, succession.SECONDS / 3)
    with pytest.raises(Unavailable, match="the first one goes on"):
        succession.hand_over(config, start=lambda: None, clock=lambda: next(times), sleep=lambda _: None)
    assert admin.server(config.paths.envoy_admin).state == "LIVE"
    assert not succession.leaving_admins(config.paths.envoy_admin)


def test_without_an_envoy_there_is_none_to_take_over_from(cell: EnvoyCell, tmp_path: Path) -> None:
    eventually(cell.envoy.is_live)
    config = config_of(cell, tmp_path)
    cell.envoy.stop()
    with pytest.raises(Unavailable, match="no Envoy runs"):
        succession.hand_over(config, start=lambda: pytest.fail("started"))


def test_sockets_of_an_envoy_that_has_handed_over_are_not_foreign(cell: EnvoyCell, pair: EnvoyPair) -> None:
    cell.serve(pair.workload(cell.leaf()))
    own = cell.envoy.settings.admin
    own.rename(own.with_name("leaving-1.sock"))
    with socket.socket(socket.AF_UNIX) as newer:
        newer.bind(str(own))
        newer.listen()
        assert ForeignSockets(own).destroy([ContainerPort(API, PORT, pair.api.path)]) == frozenset()
    own.with_name("leaving-1.sock").replace(own)


def test_an_envoy_that_has_handed_over_is_ended_once_nothing_goes_through_it(cell: EnvoyCell) -> None:
    eventually(cell.envoy.is_live)
    own = cell.envoy.settings.admin
    leaving, dead = own.with_name("leaving-1.sock"), own.with_name("leaving-2.sock")
    own.rename(leaving)
    with socket.socket(socket.AF_UNIX) as former:
        former.bind(str(dead))
    LeavingEnvoys(own).look()
    assert not {leaving, dead} & set(own.parent.iterdir())
    assert cell.envoy.process is not None
    cell.envoy.process.wait(10)
    cell.envoy.process = None
