"""Readers that ask for much, and again and again, while root changes something."""

import asyncio
import grp
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.control.api.policy import policies as module
from agent.control.api.policy.policies import STRETCH, PolicyList
from agent.control.api.policy.view import view
from agent.control.reader_share import AT_ONCE
from agent.model.policy import AppPolicy, Origin, Ports
from tests.testlib.fakes.cell import FakeCell, an_app, serving
from tests.testlib.patience import eventually

READERS = "daemon"
READER, GID = 65534, grp.getgrnam(READERS).gr_gid
CURL = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket")
MANY = tuple(
    AppPolicy(
        f"p-{number}", (an_app("acme/shop/web"),), an_app("acme/shop/api"), tcp=(Ports(8080, 8080),), origin=Origin("store")
    )
    for number in range(2_000)
)


class CountingCell(FakeCell):
    """Counts how many have asked for its status, and has many policies, always the same."""

    asked = 0

    async def step(self) -> None:
        self.asked += 1
        await super().step()

    def policies(self) -> tuple[AppPolicy, ...]:
        return MANY


@contextmanager
def as_reader() -> Iterator[None]:
    """What connects here is a reader's."""
    groups = os.getgroups()
    os.setgroups([GID])
    os.seteuid(READER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setgroups(groups)


@pytest.fixture
def cell() -> CountingCell:
    return CountingCell()


@pytest.fixture
def path(cell: CountingCell) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/run") as name:
        os.chmod(name, 0o755)
        with serving(cell, Path(name) / "agent.sock", group=READERS) as made:
            yield made


def asking(path: Path, address: str, *who: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([*who, *CURL, str(path), f"http://cell{address}"], stdout=subprocess.PIPE, text=True)


def test_some_requests_of_a_user_are_worked_on_at_once_and_root_does_not_wait(cell: CountingCell, path: Path) -> None:
    cell.waits = True
    reader = ("setpriv", f"--reuid={READER}", f"--regid={READER}", f"--groups={GID}")
    asked = [asking(path, "/v1/status", *reader) for _ in range(10)]
    eventually(lambda: cell.asked == AT_ONCE)
    assert asking(path, "/v1/policies").communicate(timeout=30)[0] == "200"
    assert cell.asked == AT_ONCE
    cell.waits = False
    cell.gate.set()
    assert [each.communicate(timeout=30)[0] for each in asked] == ["200"] * 10


def test_who_asks_for_events_again_and_again_waits_for_a_turn_too(cell: CountingCell, path: Path) -> None:
    cell.waits = True
    reader = ("setpriv", f"--reuid={READER}", f"--regid={READER}", f"--groups={GID}")
    held = [asking(path, "/v1/status", *reader) for _ in range(AT_ONCE)]
    eventually(lambda: cell.asked == AT_ONCE)
    events = asking(path, "/v1/events?kind=none", *reader)
    with pytest.raises(subprocess.TimeoutExpired):
        events.wait(2)
    assert asking(path, "/v1/events?kind=none").communicate(timeout=30)[0] == "400"
    cell.waits = False
    cell.gate.set()
    assert [each.communicate(timeout=30)[0] for each in (*held, events)] == ["200", "200", "400"]


def test_roots_request_is_answered_before_most_of_those_that_readers_sent_earlier(path: Path) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(40)]
        with as_reader():
            for each in readers:
                each.connect(str(path))
        root = stack.enter_context(socket.socket(socket.AF_UNIX))
        root.connect(str(path))
        for each in readers:
            each.sendall(b"GET /v1/policies HTTP/1.1\r\nHost: cell\r\n\r\n")
        root.sendall(b"DELETE /v1/policies/p-1 HTTP/1.1\r\nHost: cell\r\n\r\n")
        assert root.recv(4096).startswith(b"HTTP/1.1 404")
        answered = 0
        for each in readers:
            each.setblocking(False)
            try:
                answered += bool(each.recv(1))
            except BlockingIOError:
                each.setblocking(True)
                assert each.recv(1) == b"H", "the others get their answers as well"
        assert answered <= 20


async def test_all_policies_are_written_once_and_other_tasks_have_turns_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    written, turns = 0, 0

    def counted(held: AppPolicy, *, ended: bool) -> Any:
        nonlocal written
        written += 1
        return view(held, ended=ended)

    async def beside() -> None:
        nonlocal turns
        while written < len(MANY):
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(module, "view", counted)
    policies = PolicyList()
    texts = await asyncio.gather(*(policies.text(MANY, holding=MANY) for _ in range(5)), beside())
    assert len(set(texts[:5])) == 1
    assert (written, turns >= len(MANY) // STRETCH - 1) == (len(MANY), True)
    new = replace(MANY[0], name="new")
    others = (new, *MANY[2:])
    assert [each["name"] for each in json.loads(await policies.text(others, holding=others))][:2] == ["new", "p-2"]
    assert written == len(MANY) + 1
