"""Where the command line finds its agent, and what it makes of one that behaves badly."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.client import connection
from agent.client.answer import Fields
from agent.client.connection import Client
from agent.client.location import Location
from agent.errors import Bug, HostRefused, InvalidInput, Unavailable


def test_the_socket_is_below_the_root(tmp_path: Path) -> None:
    assert Location(root=tmp_path, config=None).socket() == tmp_path / "run/cellnet/agent.sock"
    with pytest.raises(HostRefused, match="cannot read /nowhere"):
        Location(root=None, config=Path("/nowhere")).socket()


def test_the_socket_is_where_the_config_puts_it(tmp_path: Path) -> None:
    config = tmp_path / "etc/cellnet/agent.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("cell: one\npaths: {run: /run/other}\n")
    assert Location(root=tmp_path, config=None).socket() == tmp_path / "run/other/agent.sock"
    assert Location(root=None, config=config).socket() == Path("/run/other/agent.sock")
    config.write_text("cell: one\n")
    assert Location(root=tmp_path, config=None).socket() == tmp_path / "run/cellnet/agent.sock"


def test_a_comment_moves_no_socket_and_an_agent_is_asked_where_the_file_has_mistakes_since(tmp_path: Path) -> None:
    (tmp_path / "etc/cellnet").mkdir(parents=True)
    config, run = tmp_path / "etc/cellnet/agent.yaml", tmp_path / "run/cellnet"
    location = Location(root=tmp_path, config=None)
    config.write_text("# paths: {run: /run/other}\nnonsense: 1\n")
    assert location.socket() == run / "agent.sock"
    config.write_text('{policies: "/etc/cellnet/a #1", paths: {run: /run/other}}\n')
    assert location.socket() == tmp_path / "run/other/agent.sock"
    config.write_text("paths: {run: /run/other}\nnonsense: 1\n")
    with pytest.raises(InvalidInput):
        location.socket()
    run.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(run / "agent.sock"))
        assert location.socket() == run / "agent.sock"


def test_a_wrong_config_that_moves_the_socket_is_reported(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("paths: {nonsense: /run/other}\n")
    with pytest.raises(InvalidInput, match=r"agent\.yaml:1"):
        Location(root=tmp_path, config=tmp_path / "agent.yaml").socket()


Answer = Callable[[bytes], Client]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answer]:
    """An agent that answers one request with given bytes and goes away."""
    threads: list[threading.Thread] = []

    def answer(content: bytes) -> Client:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()

        def serve() -> None:
            with listener:
                connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(content)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return Client(tmp_path / "agent.sock")

    yield answer
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("content", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", b"nonsense\r\n\r\n"])
def test_an_agent_that_goes_away_in_the_middle_is_unavailable(answering: Answer, content: bytes) -> None:
    with pytest.raises(Unavailable, match="went away"):
        answering(content).get("/v1/status")


def test_an_agent_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "agent.sock"))
        silent.listen()
        with pytest.raises(Unavailable, match=r"did not answer within 0\.1 s"):
            Client(tmp_path / "agent.sock").ask("GET", "/v1/status", within=0.1)


def test_an_answer_of_another_shape_is_a_bug_that_names_the_field(answering: Answer) -> None:
    with pytest.raises(Bug, match="JSON"):
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").get("/v1/status")
    with pytest.raises(Bug, match="'ok'"):
        Fields({}).flag("ok")
    with pytest.raises(Bug, match="array"):
        Fields({"ports": 1}).texts("ports")


def test_where_systemd_has_the_units_they_are_what_starts_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (unit := tmp_path / "cellnet.target").touch()
    monkeypatch.setattr(connection, "UNITS", (str(unit),))

    def hint(*options: str) -> str:
        with pytest.raises(Unavailable) as caught:
            Client(tmp_path / "agent.sock", options).get("/v1/status")
        return caught.value.hint

    assert hint() == "'sudo systemctl start cellnet.target' starts one"
    assert hint("--root", "/x") == "'sudo cellnet --root /x up' starts one"
    unit.unlink()
    assert hint() == "'sudo cellnet up' starts one"


def test_a_socket_whose_path_is_long_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with pytest.raises(Unavailable, match="no agent answers"):
        Client(folder / "agent.sock").get("/v1/status")
    with pytest.raises(Unavailable, match="no agent answers"):
        Client(folder / "missing/agent.sock").get("/v1/status")
