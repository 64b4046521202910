"""Whatever an engine gives, and whatever answers at the agent's socket: the engine gets an answer that it can show."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.cni import plugin
from tests.testlib.engines.cni import PLUGINS

DEEP = b"[" * 100_000
NETWORK = {"cniVersion": "1.0.0", "name": "cellnet", "app": "acme/shop/web"}
SETUP = {"container_id": "box", "network": {"name": "cellnet"}, "network_options": {"interface_name": "eth0"}}
ANSWERS = {
    "nothing": b"",
    "half a line": b"HTTP/1.0 2",
    "no content": b"HTTP/1.0 200 OK\r\n\r\n",
    "an empty object": b"HTTP/1.0 200 OK\r\n\r\n{}",
    "a list": b"HTTP/1.0 200 OK\r\n\r\n[]",
    "depth": b"HTTP/1.0 200 OK\r\n\r\n" + DEEP,
    "no UTF-8": b"HTTP/1.0 200 OK\r\n\r\n\xff",
    "an error that is none": b"HTTP/1.0 500 No\r\n\r\n{}",
    "an error without words": b'HTTP/1.0 400 No\r\n\r\n{"error": {}}',
    "fields of other kinds": b"HTTP/1.0 200 OK\r\n\r\n"
    b'{"address": 1, "dns": 2, "interface": [], "mac": null, "host_mac": "", "host_interface": 1}',
}


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[Path]:
    """What answers each question in one way."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        thread.join(10)


def cni(given: bytes, command: str = "ADD", container: bytes = b"box") -> Any:
    """What the engine reads."""
    environment = {b"CNI_COMMAND": command.encode(), b"CNI_CONTAINERID": container, b"CNI_NETNS": b"/run/netns/x",
                   b"CNI_IFNAME": b"eth0"}  # fmt: skip
    return _shown([PLUGINS / "cellnet-cni"], given, environment)


def netavark(given: bytes) -> Any:
    return _shown([PLUGINS / "cellnet-netavark", "setup", "/run/netns/x"], given, {})


def _shown(words: list[str | Path], given: bytes, environment: dict[bytes, bytes]) -> Any:
    done = subprocess.run(words, input=given, env=environment, capture_output=True, timeout=60)
    assert done.stderr == b"", done.stderr[-300:].decode()
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    "given",
    [DEEP, b"\xff\xfe", b"null", b"NaN", json.dumps({**NETWORK, "ports": float("nan")}).encode(), b'{"cniVersion": {}}',
     json.dumps({**NETWORK, "socket": "\ud800"}).encode(), json.dumps({**NETWORK, "socket": "x" * 300}).encode()],
    ids=["depth", "no UTF-8", "null", "no number", "none inside", "no version", "half a character", "a long path"],
)  # fmt: skip
def test_what_makes_no_sense_is_answered_with_an_error(given: bytes) -> None:
    for command in ("ADD", "DEL"):
        code, found = cni(given, command)
        if code:
            assert found["code"] in (plugin.INCOMPATIBLE, plugin.NOT_JSON, plugin.BAD_CONFIG, plugin.LATER)
            assert found["msg"]
    code, found = netavark(given)
    assert (code, bool(found["error"])) == (1, True)


def test_a_container_id_that_is_no_text_is_answered_with_an_error(tmp_path: Path) -> None:
    with answering(tmp_path / "agent.sock", b"HTTP/1.0 200 OK\r\n\r\n{}") as path:
        code, found = cni(json.dumps({**NETWORK, "socket": str(path)}).encode(), container=b"\xff\xfe")
        assert (code, found["code"]) == (1, plugin.BAD_CONFIG)
        cni(json.dumps({**NETWORK, "socket": str(path)}).encode())  # the one question that is waited for


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize(
    "ask", [lambda path: cni(_given(NETWORK, path)), lambda path: netavark(_setup(path))], ids=["cni", "netavark"]
)
def test_an_answer_of_the_agent_that_makes_no_sense_is_an_error(
    tmp_path: Path, answer: bytes, ask: Callable[[Path], tuple[int, Any]]
) -> None:
    with answering(tmp_path / "agent.sock", answer) as path:
        code, found = ask(path)
    assert code == 1
    assert found.get("msg") or found.get("error")


def _given(network: dict[str, Any], path: Path) -> bytes:
    return json.dumps({**network, "socket": str(path)}).encode()


def _setup(path: Path) -> bytes:
    return json.dumps({**SETUP, "network": {"name": "cellnet", "options": {"socket": str(path)}}}).encode()
