"""`cellnet drain`: names leave, open connections have time to end, then attachments go; on the real kernel."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.errors import Unavailable
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import echoed
from tests.testlib.containers import Attach
from tests.testlib.names import is_unknown, leads
from tests.testlib.node import Connected, Refused, outcome_of
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB

NAME = "api.shop.acme.cell.internal"
LONG = 300


@pytest.fixture
def drained(cell: CellUnderTest) -> Iterator[CellUnderTest]:
    """A cell with an API and a caller of it, which is drained no longer after the test."""
    cell.allow(WEB, API, "tcp/8080")
    yield cell
    cell.start()
    cell.client.delete("/v1/drain")


def waiting(cell: CellUnderTest) -> dict[str, str]:
    """How many connections are open at each attachment that is to go."""
    return {each.text("name"): each.text("connections") for each in cell.client.get("/v1/drain").at("waiting").each()}


@contextmanager
def in_use(asking: socket.socket) -> Iterator[None]:
    """What goes to and fro on a flow of UDP never rests."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.1):
            asking.send(b"?")

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


def begin(cell: CellUnderTest, *names: str, timeout: float = LONG) -> None:
    cell.client.post("/v1/drain", {"names": names, "timeout": timeout})


def test_a_drained_attachment_loses_its_name_at_once_and_goes_when_its_last_connection_has_ended(
    drained: CellUnderTest,
) -> None:
    cell = drained
    api, web = cell.run_app(API, port=8080, server=True), cell.run_app(WEB)
    eventually(lambda: leads(web, NAME, api))
    stream = web.dial(api, 8080)
    begin(cell, "api")
    assert is_unknown(web, NAME)
    eventually(lambda: waiting(cell) == {"api": "1"})
    (ps,) = [each for each in json.loads(cell.cellnet("ps", "--json").out) if each["name"] == "api"]
    assert ps["ready"] is False
    assert "waits for open connections of api (1)" in cell.cellnet("status").out
    assert web.connect(api, 8080) is Connected  # a caller that has its address still may
    assert "api" in cell.attachments()
    stream.close()
    eventually(lambda: cell.attachments() == ["web"])
    eventually(lambda: cell.status().at("drain").missing)
    cell.run_app(API, name="next")  # the cell itself takes attaches


def test_what_is_open_at_the_limit_is_cut_and_a_connection_that_the_app_has_made_counts_too(drained: CellUnderTest) -> None:
    cell = drained
    api, web = cell.run_app(API, port=8080, server=True), cell.run_app(WEB)
    stream = web.dial(api, 8080)
    begin(cell, "web", timeout=4)
    eventually(lambda: waiting(cell) == {"web": "1"})
    done = cell.cellnet("drain", "web", "--timeout=1")
    assert done.out.splitlines()[-1] == "web is detached"
    assert cell.attachments() == ["api"]
    assert outcome_of(lambda: stream.sendall(bytes(10_000_000))) is not Connected


def test_a_name_with_capitals_is_that_of_the_attachment_in_lower_case_for_every_command(drained: CellUnderTest) -> None:
    cell = drained
    cell.run_app(API)
    cell.run_app(WEB)
    assert cell.cellnet("exec", "Web", "--", "echo", "inside").out == "inside\n"
    assert cell.cellnet("drain", "Web").out.splitlines()[-1] == "web is detached"
    assert not cell.cellnet("detach", "API").out
    assert cell.attachments() == []
    assert cell.cellnet("detach", "API").out == "there was no 'API'\n"


def test_a_drained_cell_takes_no_attach_over_a_restart_and_says_how_to_take_it_back(
    drained: CellUnderTest, attach: Attach
) -> None:
    cell = drained
    api, web = cell.run_app(API, port=8080, server=True), cell.run_app(WEB)
    stream = web.dial(api, 8080)
    begin(cell)
    cell.kill("agent", again=True)
    cell.wait_well()
    eventually(lambda: waiting(cell) == {"api": "1", "web": "1"})
    eventually(lambda: "this cell, drained" in cell.cellnet("cell", "list").out)
    assert is_unknown(web, NAME)
    with pytest.raises(Unavailable, match="this cell is drained since") as refused:
        attach("acme/shop/more")
    assert "cellnet drain --undo" in refused.value.hint
    with pytest.raises(Unavailable, match="this cell is drained since"):
        cell.client.get("/v1/containers")
    done = cell.cellnet("drain", "--timeout=0")
    stream.close()
    assert {"api is detached", "web is detached"} <= set(done.out.splitlines())
    assert "the cell, since" in cell.cellnet("status").out
    cell.cellnet("drain", "--undo")
    attach("acme/shop/more")


def test_what_is_taken_back_in_time_stays_and_has_its_name_again(drained: CellUnderTest) -> None:
    cell = drained
    api, web = cell.run_app(API, port=8080, server=True), cell.run_app(WEB)
    stream = web.dial(api, 8080)
    begin(cell)
    assert is_unknown(web, NAME)
    assert cell.cellnet("drain", "--undo").out == ""
    assert leads(web, NAME, api)
    stream.sendall(b"?")
    assert cell.cellnet("drain", "--undo").out == "nothing was being drained\n"
    missing = cell.cellnet("drain", "apu", code=1)
    assert "there is no attachment 'apu'" in missing.err
    assert cell.attachments() == ["api", "web"]


def test_a_published_port_refuses_new_calls_while_those_that_are_open_go_on(drained: CellUnderTest) -> None:
    cell = drained
    cell.allow("0.0.0.0/0", API, "tcp/8080", "udp/8080")
    api = cell.run_app(API, port=8080, server=True, options=("--publish", "7000:8080", "--publish", "7000:8080/udp"))
    stream, asking = cell.outside.dial(cell.host, 7000), cell.outside.datagrams()
    asking.connect((str(cell.host.address), 7000))
    assert all(map(echoed, (stream, asking)))
    begin(cell, "api")
    assert cell.outside.connect(cell.host, 7000) is Refused
    assert cell.outside.udp(cell.host, 7000) is Refused
    assert all(map(echoed, (stream, asking)))
    assert cell.attachments() == ["api"]
    cell.client.delete("/v1/drain")
    assert cell.outside.connect(cell.host, 7000) is Connected
    assert api.name in cell.attachments()


def test_a_flow_of_udp_is_waited_for_until_it_is_silent(drained: CellUnderTest) -> None:
    cell = drained
    cell.allow(WEB, API, "udp/8080")
    api, web = cell.run_app(API, port=8080, server=True), cell.run_app(WEB)
    asking = web.datagrams()
    asking.connect((str(api.address), 8080))
    with in_use(asking):
        begin(cell, "api")
        eventually(lambda: waiting(cell) == {"api": "1"})
    eventually(lambda: cell.attachments() == ["web"])
