"""Nothing of what apps say to each other is in any capture; and where mutual TLS is switched off it is in every one."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host.namespace import run_in
from tests.cells.conftest import Place
from tests.mutual_tls.captures import Captures, captured
from tests.testlib.cells import CellsUnderTest
from tests.testlib.containers import ServingContainer

WEB, API = "acme/shop/web", "acme/shop/api"
PORT = 8080
UNDER_ATTACK, ATTEMPT = 1.0, 0.3  # seconds

Disturbance = Callable[[ServingContainer, ServingContainer], None]


def _undisturbed(web: ServingContainer, api: ServingContainer) -> None:
    pass


def _redirect_removed(web: ServingContainer, api: ServingContainer) -> None:
    for each in (web, api):
        each.run("nft", "delete", "table", "ip", "cellnet", code=None)


def _way_back_removed(web: ServingContainer, api: ServingContainer) -> None:
    for each in (web, api):
        each.run("ip", "route", "flush", "table", "77", code=None)


def _marks_forgotten(web: ServingContainer, api: ServingContainer) -> None:
    for each in (web, api):
        each.run("sysctl", "-qw", "net.ipv4.tcp_fwmark_accept=0", "net.ipv4.fwmark_reflect=0")


def _loopback_down(web: ServingContainer, api: ServingContainer) -> None:
    for each in (web, api):
        each.run("ip", "link", "set", "lo", "down")


def _said(web: ServingContainer, api: ServingContainer, captures: Captures, disturb: Disturbance) -> None:
    """The payload goes to and fro on a live connection and on new ones, while something happens."""
    live = web.dial(api, PORT)
    exchange(live, captures.payload)
    live.settimeout(ATTEMPT)
    disturb(web, api)
    until = time.monotonic() + UNDER_ATTACK
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            exchange(live, captures.payload)
        with contextlib.suppress(OSError), dialled(web, api) as new:
            exchange(new, captures.payload)


def dialled(web: ServingContainer, api: ServingContainer) -> socket.socket:
    """A new connection, which an attack may have come to nothing."""
    there = (str(api.address), PORT)
    return run_in(web.pin, lambda: socket.create_connection(there, timeout=ATTEMPT))


def exchange(connection: socket.socket, payload: bytes) -> bool:
    """Whether it came back."""
    connection.sendall(payload)
    return connection.recv(65536) == payload


@pytest.mark.parametrize(
    "disturb",
    [_undisturbed, _redirect_removed, _way_back_removed, _marks_forgotten, _loopback_down],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("of", [1, 2], ids=["on one cell", "across cells"])
def test_no_capture_has_a_byte_of_it(
    cells: CellsUnderTest, place: Place, tmp_path: Path, disturb: Disturbance, of: int
) -> None:
    web, api = place(1, WEB), place(of, API, PORT)
    cells.allow(WEB, API, f"tcp/{PORT}")
    with captured(cells, web, api, folder=tmp_path) as captures:
        _said(web, api, captures, disturb)
        assert not captures.seen()


def test_without_mutual_tls_every_capture_has_it(
    make_cells: Callable[..., CellsUnderTest], place: Place, tmp_path: Path
) -> None:
    cells = make_cells(2, "tls.mtls=none")
    web, api = place(cells[1], WEB), place(cells[2], API, PORT)
    cells.allow(WEB, API, f"tcp/{PORT}")
    with captured(cells, web, api, folder=tmp_path) as captures:
        _said(web, api, captures, _undisturbed)
        assert captures.seen() == sorted(captures.files)
