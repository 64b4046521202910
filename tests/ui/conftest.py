"""The page's server over an agent on memory, called as a browser would, or as an attacker does."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from agent.config.listen import ListenAddress
from agent.ui.agent_link import AgentLink
from agent.ui.changes import PolicyChanges
from agent.ui.server import Served
from agent.ui.server import serving as page_serving
from tests.testlib.fakes.cell import FakeCell, serving


@dataclass(frozen=True)
class Said:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Visitor:
    """One who calls the page; `cookie` is what it was given."""

    served: Served
    cookie: str = ""

    def __call__(self, method: str, address: str, body: object = None, **headers: str) -> Said:
        """Headers as a page of this very address would send them, unless they are given; an empty one is left out."""
        host = f"127.0.0.1:{self.served.listen.port}"
        sent = {"Host": host, "Origin": "" if method == "GET" else f"http://{host}", "Cookie": self.cookie}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, str) else None if body is None else json.dumps(body)
        connection = HTTPConnection("127.0.0.1", self.served.listen.port, timeout=20)
        connection.putrequest(method, address, skip_host=True)
        for name, value in sent.items():
            if value:
                connection.putheader(name, value)
        if content is not None:
            connection.putheader("Content-Length", str(len(content.encode())))
        connection.endheaders(None if content is None else content.encode())
        given = connection.getresponse()
        said = Said(given.status, dict(given.getheaders()), given.read().decode())
        connection.close()
        return said

    def enter(self) -> Said:
        """With the token that was printed."""
        said = self("POST", "/enter", self.served.token)
        self.cookie = said.headers.get("Set-Cookie", "").split(";")[0]
        return said


Serve = Callable[..., Visitor]


@contextmanager
def served_page(socket: Path, *, users: frozenset[int], may_change: bool) -> Iterator[Served]:
    """In a thread, for as long as the context lasts."""
    ready, made = threading.Event(), list[Served]()
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        agent = AgentLink(socket)
        listen = ListenAddress(IPv4Address("127.0.0.1"), 0)
        changes = PolicyChanges(agent, now=lambda: "2030-01-02T03:04:05Z")
        async with page_serving(listen, agent, changes=changes, users=users, may_change=may_change) as served:
            made.append(served)
            stop.append(lambda: loop.call_soon_threadsafe(ended.set))
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(20)
    try:
        yield made[0]
    finally:
        stop[0]()
        thread.join()


@pytest.fixture
def cell() -> FakeCell:
    return FakeCell(applies=True)


@pytest.fixture
def agent(cell: FakeCell, tmp_path: Path) -> Iterator[Path]:
    """The socket at which it answers."""
    with serving(cell, tmp_path / "agent.sock") as path:
        yield path


@pytest.fixture
def serve(agent: Path) -> Iterator[Serve]:
    """Serves the page to users, root unless others are given."""
    with ExitStack() as stack:
        yield lambda users=frozenset({0}), may_change=True: Visitor(
            stack.enter_context(served_page(agent, users=users, may_change=may_change))
        )


@pytest.fixture
def visitor(serve: Serve) -> Visitor:
    """One that is let in."""
    made = serve()
    assert made.enter().status == 200
    return made
