"""Engines in trouble, in strict mode: many containers at once, until no address is left, and all that is killed halfway."""

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from host import namespace
from lab.cell import Cell
from tests.testlib.agents.prompt import PromptCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.engines.cni import Engine, PluginError, address_in
from tests.testlib.engines.podman import Podman
from tests.testlib.patience import eventually

AT_ONCE = 20
MANY = 250
ROOM = 253  # a /24 without the cell's own and the broadcast address
SERVER = ("python3", "-m", "http.server", "8080")
CALL = "import urllib.request as r; print(r.urlopen('http://{}:8080/', timeout=5).status)"
ORDERS = tuple(itertools.permutations(("agent", "engine")))


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("tls.mtls=strict",)


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return PromptCell


@pytest.fixture
def engine(cell: CellUnderTest) -> Engine:
    return Engine(cell.lab.root / "run/cellnet/agent.sock")


@pytest.fixture
def places(cell: CellUnderTest) -> Iterator[list[Path]]:
    """Namespaces, one more than there are addresses."""
    folder = cell.lab.root / "bare"
    folder.mkdir()
    made = [folder / f"box{number}" for number in range(ROOM + 1)]
    for each in made:
        namespace.create(each)
    yield made
    for each in made:
        namespace.unpin(each)
    folder.rmdir()


def links(cell: CellUnderTest) -> list[str]:
    """The host's ends of what is attached."""
    found = json.loads(cell.host.run("ip", "-j", "link", "show", "type", "veth"))
    return [each["ifname"] for each in found if each["ifname"].startswith("cnet")]


def test_250_containers_come_20_at_once_until_no_address_is_left_and_go_20_at_once(
    cell: CellUnderTest, engine: Engine, places: list[Path]
) -> None:
    def add(place: Path) -> str:
        return address_in(engine.add(place.name, place, app="acme/shop/web", name=place.name))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert len(set(pool.map(add, places[:MANY]))) == MANY
        assert len(cell.attachments()) == len(links(cell)) == MANY
        addresses = list(pool.map(add, places[MANY:ROOM]))
        with pytest.raises(PluginError) as refused:
            add(places[ROOM])
        assert (refused.value.code, refused.value.what) == (101, "no address left in 10.255.1.0/24")
        assert "detach or release what is no longer needed" in refused.value.hint
        engine.call("DEL", places[ROOM - 1].name)
        assert add(places[ROOM]) == addresses[-1]
        list(pool.map(lambda place: engine.call("DEL", place.name, netns=place), places))
    assert cell.attachments() == links(cell) == []
    assert os.listdir(cell.lab.root / "run/cellnet/netns") == []


def test_a_plugin_that_is_killed_at_any_moment_leaves_nothing_that_a_later_call_meets(
    cell: CellUnderTest, engine: Engine, places: list[Path]
) -> None:
    config = {"cniVersion": "1.0.0", "name": "cellnet", "app": "acme/shop/web", "socket": str(engine.socket)}
    for number, place in enumerate(places[:8]):
        environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": place.name, "CNI_NETNS": str(place), "CNI_IFNAME": "eth0"}
        with subprocess.Popen([engine.plugin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as begun:
            assert begun.stdin is not None
            begun.stdin.write(json.dumps(config).encode())
            begun.stdin.close()
            time.sleep(0.01 * number)
            begun.kill()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda place: address_in(engine.add(place.name, place)), places[:8]))
        assert len(set(answers)) == 8
        list(pool.map(lambda place: engine.call("DEL", place.name, netns=place), places[:8]))
    assert cell.attachments() == links(cell) == []


@pytest.mark.parametrize("killed", ORDERS, ids="-then-".join)
@pytest.mark.parametrize("started", ORDERS, ids="-then-".join)
def test_agent_and_engine_are_killed_and_started_in_every_order(
    cell: CellUnderTest, podman: Podman, killed: tuple[str, ...], started: tuple[str, ...]
) -> None:
    for name in ("api", "web", "lost"):
        podman.container(name, f"acme/shop/{name}", command=SERVER if name == "api" else ())
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")

    def kill(what: str) -> None:
        if what == "agent":
            cell.kill("agent")
            return
        for name in ("lost", "web"):
            os.kill(int(podman("inspect", "--format={{.State.ConmonPid}}", name).out), signal.SIGKILL)
        os.kill(int(podman("inspect", "--format={{.State.Pid}}", "lost").out), signal.SIGKILL)

    def remove(code: int | None) -> int:
        return podman("rm", "--force", "--ignore", "--time=0", "web", "lost", code=code).code

    def start(what: str) -> None:
        if what == "agent":
            cell.start()
            return
        remove(code=None)

    for each in killed:
        kill(each)
    for each in started:
        start(each)
    eventually(lambda: remove(code=None) == 0)  # without an agent podman does not get to its end
    eventually(lambda: cell.attachments() == ["api"])
    eventually(lambda: len(links(cell)) == 1)
    podman.container("web", "acme/shop/web")
    api = podman.address("api")
    eventually(lambda: podman("exec", "web", "python3", "-c", CALL.format(api), code=None).out == "200\n")
    assert cell.attachments() == ["api", "web"]
    assert cell.wait_well().flag("ok")
