"""From plain TCP to mutual TLS and back on three cells that run, one at a time, while all containers call each other."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import permutations

import pytest

from tests.cells.conftest import Place
from tests.testlib.agents.swift import SwiftCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.connections import echoed, is_reset
from tests.testlib.containers import ServingContainer
from tests.testlib.in_containers import call_load
from tests.testlib.node import pair
from tests.testlib.patience import eventually
from tests.testlib.tunnels.mutual_tls import (
    INBOUND,
    OUTBOUND,
    can_take,
    is_in_force,
    mutual_tls,
    restart_agent,
    set_mode,
    tunnel_ends,
)

PORT, HELD = 8080, 9000
APPS = {"acme/shop/web": 1, "acme/shop/api": 1, "acme/shop/db": 2, "acme/bank/job": 3}
"""Each with its cell."""
CUT = re.compile(r'"count": (\d+), .*"event": "flows_cut"')
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Stream:
    """The calling end of one, and the cells of both."""

    cells: set[int]
    end: socket.socket

    def lives(self) -> bool:
        return echoed(self.end)


class Load:
    """Calls from each container to all others, without end."""

    def __init__(self, containers: list[ServingContainer], stack: ExitStack) -> None:
        self._callers = [stack.enter_context(_caller(each, containers)) for each in containers]

    def failures(self) -> list[str]:
        """Of all calls so far. Each caller has gone once round since the last look."""
        failed = []
        for each in self._callers:
            assert each.stdin is not None
            assert each.stdout is not None
            each.stdin.write(b"?\n")
            each.stdin.flush()
            found = json.loads(each.stdout.readline())
            assert found.pop("done", 0) > 0
            failed += list(found)
        return failed


def _caller(container: ServingContainer, containers: list[ServingContainer]) -> "subprocess.Popen[bytes]":
    others = [str(each.address) for each in containers if each is not container]
    argv = [sys.executable, "-IS", call_load.__file__, str(PORT), *others]
    return container.place.start(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


class Scene:
    """Three cells with containers on them that call each other, and streams between these."""

    def __init__(self, cells: CellsUnderTest, place: Place, stack: ExitStack) -> None:
        self.cells = cells
        self.containers = [place(cells[number], app, PORT) for app, number in APPS.items()]
        self._on = dict(zip(self.containers, APPS.values(), strict=True))
        cells.allow("same-org", "acme/*/*", "tcp/any")
        self._load = Load(self.containers, stack)
        self._envoys = [each.envoy_pid for each in cells]

    def streams(self) -> list[Stream]:
        """One from each container to each other. They say nothing until they are asked."""
        pairs = permutations(self.containers, 2)
        return [Stream({self._on[one], self._on[other]}, one.dial(other, PORT)) for one, other in pairs]

    def change(self, cell: CellUnderTest, mode: str) -> int:
        """A whole step: a restart with another configuration, until `status` is well. How many flows it has cut.

        No call fails meanwhile, and Envoy runs on.
        """
        log = cell.log
        set_mode(cell, mode)
        cell.wait_well()
        assert mode == "none" or is_in_force(cell, mode)
        self.check()
        return sum(map(int, CUT.findall(cell.log.removeprefix(log))))

    def check(self) -> None:
        """No call has failed so far, and Envoy was not started again."""
        assert self._load.failures() == []
        assert [each.envoy_pid for each in self.cells] == self._envoys

    def ends(self) -> list[set[int]]:
        """Where Envoy takes tunnels and calls for them, for each container."""
        return list(map(tunnel_ends, self.containers))


@contextmanager
def forged(cells: CellsUnderTest, number: int) -> Iterator[None]:
    """The record of a cell, whose agent is away, says nothing of mutual TLS."""
    key = f"/cellnet/v1/cells/cell-{number}/record"
    record = json.loads(cells.etcd.try_ctl("get", "--print-value-only", key).out)
    assert record.pop("mtls") == "strict"
    cells[number].kill("agent")
    assert cells.etcd.try_ctl("put", key, json.dumps(record)).code == 0
    yield
    cells[number].start()


@pytest.fixture
def scene(make_cells: Callable[..., CellsUnderTest], place: Place) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(make_cells(3, "tls.mtls=none", kind=SwiftCell), place, stack)


def test_no_call_is_refused_on_the_way_to_strict_and_back(scene: Scene) -> None:
    cells, nowhere, everywhere = scene.cells, [set[int]()] * len(APPS), [{OUTBOUND, INBOUND}] * len(APPS)
    held, plain = pair(scene.containers[0], scene.containers[2], HELD), scene.streams()
    assert scene.ends() == nowhere
    for cell in cells:
        assert scene.change(cell, "accept") == 0
    assert scene.ends() == everywhere
    eventually(lambda: {each.cellnet("cell", "list").out.count("accept") for each in cells} == {3})

    # what was opened before is plain still, and is counted at both ends
    tunnelled = scene.streams()
    eventually(lambda: [mutual_tls(each).text("plain_flows") for each in cells] == ["11", "7", "6"])
    for cell, counted in zip(cells, (11, 2, 0), strict=True):
        assert all(each.lives() for each in plain + tunnelled)
        assert scene.change(cell, "strict") == counted
        assert all(is_reset(each.end) for each in plain if cell.lab.number in each.cells)
        plain = [each for each in plain if cell.lab.number not in each.cells]
    assert all(map(is_reset, held))

    with forged(cells, 3):
        eventually(lambda: mutual_tls(cells[1]).texts("plain_cells") == ("cell-3",))
        for _ in range(2):
            scene.check()  # plain TCP would be refused there
    eventually(lambda: mutual_tls(cells[1]).texts("plain_cells") == ())

    for cell in cells:
        assert scene.change(cell, "accept") == 0
    for cell in cells:
        assert scene.change(cell, "none") == 0
        assert all(each.lives() for each in tunnelled)
    restart_agent(cells[2])
    scene.check()
    assert scene.ends() == everywhere
    eventually(lambda: all(mutual_tls(each).text("calls") not in ("", "0") for each in cells))
    for each in tunnelled:
        assert each.lives()
        each.end.close()
    for container in scene.containers:
        container.run("ss", "-K", "dport", "=", f":{INBOUND}")  # of themselves, unused tunnels end after five minutes
    eventually(lambda: all(is_in_force(each, "none") for each in cells))
    scene.check()
    assert scene.ends() == nowhere
    eventually(lambda: all(can_take(each, port) for each in scene.containers for port in (OUTBOUND, INBOUND)))
