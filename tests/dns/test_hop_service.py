"""The hop as dnsmasq finds it, on its sockets, with an agent that answers as a test says."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import pytest

from dataplane.dns.hop.permits import HopReply, HopRequest
from dataplane.dns.hop.quota import BURST
from dataplane.dns.hop.service import AT_ONCE, serve
from host.namespace import run_in
from tests.testlib.dns.scripted_server import ScriptedDns, scripted_dns
from tests.testlib.netns import Netns
from tests.testlib.node import Node
from tests.testlib.patience import PATIENCE, eventually

HOP, SERVER = "127.0.0.2", IPv4Address("127.0.0.53")
NAME, ONE, TWO = "api.example.com", "192.0.2.1", "192.0.2.2"
CLIENT, OTHER = "10.255.1.2", "10.255.1.3"
Reply = Callable[[HopRequest], HopReply]


class Hop:
    """One that runs in a thread; `reply` is what the agent says, `requests` what it was asked. Without `reply` it is away."""

    def __init__(self, place: Node, folder: Path) -> None:
        self.place, self._folder = place, folder
        self.reply: Reply | None = lambda asked: HopReply(asked.number, permitted=True, addresses=asked.addresses)
        self.requests: list[HopRequest] = []
        self._datagrams = self.opened(socket.SOCK_DGRAM)
        self._datagrams.setblocking(False)
        self._datagrams.bind((HOP, 53))
        self._thread = threading.Thread(target=lambda: run_in(place.pin, lambda: asyncio.run(self._run())))

    def ask_and_start(self, name: str) -> dns.message.Message:
        """What a question is answered that was there before it ran."""
        (self._folder / "upstreams").write_text(f"server={SERVER}#53\n")
        with self.opened(socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE)
            asking.connect((HOP, 53))
            asking.send(asked_by(CLIENT, name, "A"))
            self._thread.start()
            return dns.message.from_wire(asking.recv(65_535))

    def start(self) -> None:
        """Until it answers."""
        (self._folder / "upstreams").write_text(f"server={SERVER}#53\n")
        self._thread.start()
        eventually(lambda: self._is_there() and self.ask(NAME).rcode() != dns.rcode.SERVFAIL)
        self.requests.clear()

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(PATIENCE)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task() or pytest.fail("no task")
        connections = socket.create_server((HOP, 53))
        agent = await asyncio.start_unix_server(self._converse, self._folder / "agent.sock")
        with suppress(asyncio.CancelledError):
            await serve(self._datagrams, connections, agent=self._folder / "agent.sock", servers=self._folder / "upstreams")
        agent.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (line := await reader.readline()) and self.reply is not None:
            self.requests.append(HopRequest.of(line))
            writer.write(self.reply(self.requests[-1]).line)
        writer.close()

    def _is_there(self) -> bool:
        with suppress(OSError):
            return bool(self.ask(NAME))
        return False

    def ask(self, name: str, *, client: str = CLIENT, kind: str = "A") -> dns.message.Message:
        """One question, on a container's behalf, over UDP. Raises OSError."""
        with self.opened(socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE)
            asking.connect((HOP, 53))
            asking.send(asked_by(client, name, kind))
            return dns.message.from_wire(asking.recv(65_535))

    def opened(self, kind: socket.SocketKind) -> socket.socket:
        return run_in(self.place.pin, lambda: socket.socket(socket.AF_INET, kind))


def asked_by(client: str, name: str, kind: str = "A") -> bytes:
    question = dns.message.make_query(name, kind, use_edns=0)
    question.use_edns(0, payload=1232, options=[dns.edns.ECSOption(client, 32)])
    return question.to_wire()


def said(message: dns.message.Message) -> list[str]:
    return [str(record) for each in message.answer for record in each]


@pytest.fixture
def place(netns: Callable[[str], Netns]) -> Node:
    made = netns("hop")
    made.run("ip", "link", "set", "lo", "up")
    return Node(made.path, address=SERVER)


@pytest.fixture
def server(place: Node) -> Iterator[ScriptedDns]:
    with scripted_dns(place, at=SERVER) as made:
        made.records, made.seconds = {NAME: [f"A {ONE}", f"A {TWO}"]}, 60
        yield made


@pytest.fixture
def hop(place: Node, server: ScriptedDns, tmp_path: Path) -> Iterator[Hop]:
    made = Hop(place, tmp_path)
    made.start()
    server.asked.clear()
    yield made
    made.close()


def test_what_was_asked_before_it_ran_is_not_told_that_the_agent_is_away(
    place: Node, server: ScriptedDns, tmp_path: Path
) -> None:
    hop = Hop(place, tmp_path)
    try:
        assert sorted(said(hop.ask_and_start(NAME))) == [ONE, TWO]
    finally:
        hop.close()


def test_the_agent_is_asked_before_the_outside_is_and_again_before_an_answer_is_given(hop: Hop, server: ScriptedDns) -> None:
    hop.reply = lambda asked: HopReply(asked.number, permitted=True, addresses=asked.addresses[:1])
    server.records["new.example.com"] = [f"A {ONE}", f"A {TWO}"]
    assert len(said(hop.ask("new.example.com"))) == 1
    assert [(each.name, len(each.addresses)) for each in hop.requests] == [("new.example.com", 0), ("new.example.com", 2)]


def test_where_the_agent_says_no_nothing_is_asked(hop: Hop, server: ScriptedDns) -> None:
    hop.reply = lambda asked: HopReply(asked.number, permitted=False)
    assert hop.ask(NAME).rcode() == dns.rcode.NXDOMAIN
    assert server.asked == []


def test_an_answer_that_is_kept_is_opened_again_for_each_that_asks(hop: Hop, server: ScriptedDns) -> None:
    for client in (CLIENT, OTHER):
        assert set(said(hop.ask(NAME, client=client))) == {ONE, TWO}
    assert server.asked == []
    assert [str(each.client) for each in hop.requests if each.addresses] == [CLIENT, OTHER]


def test_without_the_agent_a_container_keeps_what_is_open_to_it_and_hears_of_nothing_else(hop: Hop) -> None:
    assert set(said(hop.ask(NAME))) == {ONE, TWO}
    hop.reply = None
    assert set(said(hop.ask(NAME))) == {ONE, TWO}
    assert hop.ask(NAME, client=OTHER).rcode() == dns.rcode.SERVFAIL
    assert hop.ask("new.example.com").rcode() == dns.rcode.SERVFAIL
    hop.reply = lambda asked: HopReply(asked.number, permitted=True, addresses=asked.addresses)
    eventually(lambda: said(hop.ask(NAME, client=OTHER)))


def test_each_question_above_what_one_container_may_ask_is_answered_too(hop: Hop) -> None:
    """By an error, at once: one that is lost would take a place of all for ten seconds."""
    many = 3 * int(BURST)
    with hop.opened(socket.SOCK_DGRAM) as flood:
        flood.settimeout(PATIENCE)
        flood.connect((HOP, 53))
        codes = []
        for _ in range(many // 20):  # fewer at once than a socket has room for
            for _ in range(20):
                flood.send(asked_by(CLIENT, NAME, "AAAA"))
            codes += [dns.message.from_wire(flood.recv(65_535)).rcode() for _ in range(20)]
    assert len(codes) == many
    assert set(codes) == {dns.rcode.NOERROR, dns.rcode.SERVFAIL}
    assert said(hop.ask(NAME, client=OTHER))


def test_names_that_no_server_answers_are_so_many_at_once_for_one_container(hop: Hop, server: ScriptedDns) -> None:
    """Each is waited for, in a place of all. The others are answered by an error, at once."""
    server.silent = True
    with hop.opened(socket.SOCK_DGRAM) as flood:
        flood.settimeout(PATIENCE)
        flood.connect((HOP, 53))
        for number in range(AT_ONCE + 20):
            flood.send(asked_by(CLIENT, f"n{number}.example.com"))
        codes = [dns.message.from_wire(flood.recv(65_535)).rcode() for _ in range(AT_ONCE + 20)]
    assert set(codes) == {dns.rcode.SERVFAIL}
    assert len(hop.requests) == AT_ONCE
    server.silent = False
    assert said(hop.ask(NAME))


def test_what_is_no_question_over_either_way_harms_nothing(hop: Hop) -> None:
    with hop.opened(socket.SOCK_DGRAM) as sender, hop.opened(socket.SOCK_STREAM) as caller:
        for wire in (b"", b"\xff", b"\0" * 12, b"\xff" * 600, asked_by(CLIENT, NAME)[:-1]):
            sender.sendto(wire, (HOP, 53))
        caller.settimeout(PATIENCE)
        caller.connect((HOP, 53))
        caller.sendall(struct.pack("!H", 40) + b"\xff" * 40)
        assert caller.recv(1) == b""
    assert said(hop.ask(NAME))
