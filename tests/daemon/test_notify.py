"""sd_notify, to a socket of the test."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.notify import notify


@pytest.fixture
def ears(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(5)
        yield made


def test_the_message_arrives_at_the_socket_that_is_named(ears: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", ears.getsockname())
    notify("READY=1")
    assert ears.recv(100) == b"READY=1"


def test_an_abstract_socket_is_named_with_an_at(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"cellnet-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears:
        ears.bind(f"\0{name}")
        ears.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("STOPPING=1")
        assert ears.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify"])
def test_no_socket_to_notify_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
