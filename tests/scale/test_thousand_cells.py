"""One cell of a thousand, with 60,000 policies of 5,000 apps in the store: it starts, follows, and holds only what is its own.

Times are printed (`pytest -s`), not asserted.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.errors import Unavailable
from agent.store.etcd import records
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.containers import ServingContainer
from tests.testlib.kernel_changes import tables
from tests.testlib.node import Connected, Refused, connect_at_once
from tests.testlib.patience import eventually
from tests.testlib.resource_use import resident
from tests.testlib.shop import API, WEB
from tests.testlib.stores import large_store
from tests.testlib.stores.large_store import BELOW, CELLS, POLICIES, record

LONG = 90.0  # seconds: that it does not hang
MEMORY = 600 << 20  # bytes
RULES = 400  # far fewer than there are policies
BYTES = 64 << 10  # of a change, where all records are some 10 MB
MOVED = IPv4Address("10.79.0.1")


@pytest.fixture
def one(make_cells: Callable[..., CellsUnderTest]) -> CellsUnderTest:
    """The first of a thousand and one; its agent is not running, and the store is full."""
    made = make_cells(1, f"overlay.network={large_store.NETWORK}")
    cell = made[1]
    cell.kill("agent")
    argv = [sys.executable, "-P", "-m", "tests.testlib.stores.large_store", made.etcd.url]
    filling = ["nsenter", f"--net={made.segment.netns}", "--", "env", f"PYTHONPATH={Path(__file__).parents[2]}", *argv]
    subprocess.run(filling, check=True, timeout=180)
    return made


@pytest.mark.timeout(300)
def test_one_of_a_thousand_cells_starts_and_follows(one: CellsUnderTest) -> None:
    cell, figures = one[1], dict[str, str]()
    with timed(figures, "start from nothing until all is in the kernel"):
        cell.start(well=False)
        eventually(lambda: is_whole(cell), seconds=LONG)
    assert status_of(cell) == (CELLS, POLICIES)
    own_apps_only(one, figures)
    peers_that_move(one, figures)
    cell.kill("agent")
    with timed(figures, "start with all of it on the disk"):
        cell.start(well=False)
        eventually(lambda: is_whole(cell, policies=POLICIES + 1), seconds=LONG)
    with timed(figures, "cell list"):
        assert len(json.loads(cell.cellnet("cell", "list", "--json").out)) == CELLS + 1
    with timed(figures, "status"):
        assert status_of(cell) == (CELLS, POLICIES + 1)
    figures["memory of the agent"] = f"{resident(cell.agent_pid) >> 20} MB"
    assert resident(cell.agent_pid) < MEMORY
    print(*(f"{what}: {how_much}" for what, how_much in figures.items()), sep="\n")


def own_apps_only(one: CellsUnderTest, figures: dict[str, str]) -> None:
    """What containers of this cell may comes into force at once, and there is a rule for nothing else."""
    cell = one[1]
    before = len(cell.rules())
    with placed(cell, WEB) as web, placed(cell, API, 8080) as api:
        assert connect_at_once(web, api, 8080) is Refused
        heard = received(cell)
        with timed(figures, "a policy of the store until it is in force"):
            policy = large_store.policy("mine", WEB, API, 8080)
            put(one, BELOW.policy("mine"), records.encode_policy(policy))
            eventually(lambda: connect_at_once(web, api, 8080) is Connected)
        figures["octets from etcd for it"] = str(received(cell) - heard)
        assert received(cell) - heard < BYTES
        assert len(cell.rules()) < before + 60 < RULES
        figures["rules with two containers"] = str(len(cell.rules()))
    figures["last apply"] = f"{cell.status().at('last_apply').text('milliseconds')} ms"


def peers_that_move(one: CellsUnderTest, figures: dict[str, str]) -> None:
    moved = record(7, underlay=MOVED)
    with timed(figures, "a peer's new address until it is in the kernel"):
        put(one, BELOW.record(moved.name), records.encode_cell(moved))
        eventually(lambda: f" dst {MOVED} " in "".join(tables(one[1])["forwarding"]))
    figures["its apply"] = f"{one[1].status().at('last_apply').text('milliseconds')} ms"


@contextmanager
def placed(cell: CellUnderTest, app: str, *ports: int) -> Iterator[ServingContainer]:
    made = ServingContainer(cell, app, name=None, ports=ports)
    try:
        yield made
    finally:
        made.end()


@contextmanager
def timed(figures: dict[str, str], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    figures[what] = f"{time.monotonic() - began:.2f} s"


def put(one: CellsUnderTest, key: str, data: bytes) -> None:
    assert one.etcd.try_ctl("put", key, data.decode()).code == 0


def is_whole(cell: CellUnderTest, *, policies: int = POLICIES) -> bool:
    """Whether the kernel leads to all peers, and the agent answers; the cheaper question first."""
    count = cell.host.run("sh", "-c", "ip -4 route show proto 157 | grep -c ' via '", code=None).strip()
    if count != str(CELLS):
        return False
    try:
        return status_of(cell) == (CELLS, policies)
    except Unavailable:
        return False


def status_of(cell: CellUnderTest) -> tuple[int, int]:
    """How many peers, how many policies of the store."""
    status = cell.status()
    return len(list(status.at("peers").each())), int(status.at("policies").text("from_store"))


def received(cell: CellUnderTest) -> int:
    """Octets that etcd has sent to this cell over what is open now."""
    return sum(map(int, re.findall(r"bytes_received:(\d+)", cell.host.run("ss", "-tinH", "dport", "=", ":2379"))))
