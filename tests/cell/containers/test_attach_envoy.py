"""Attach and Envoy: refused by it, without it, and while it comes and goes. `up` waits longer before each new start of it."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.errors import HostRefused, Unavailable
from tests.testlib.cell import CellUnderTest
from tests.testlib.containers import Attach
from tests.testlib.footprint import nothing_left
from tests.testlib.netns import Netns
from tests.testlib.node import Connected
from tests.testlib.patience import eventually

MakeNetns = Callable[[str], Netns]
TLS = 61443


def test_two_attaches_of_one_namespace_at_once_make_one_attachment(
    cell: CellUnderTest, attach: Attach, netns: MakeNetns
) -> None:
    """While both wait for Envoy, neither has the namespace yet."""
    place = netns("web")
    cell.kill("envoy", again=True)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(attach, "acme/shop/web", to=place, name=name) for name in ("one", "two")]
        errors = [each.exception() for each in both]
    assert sorted(type(error).__name__ for error in errors) == ["Conflict", "NoneType"], errors
    made = next(each.result() for each, error in zip(both, errors, strict=True) if error is None)
    assert cell.attachments() == [made.name]
    assert cell.host.connect(made, TLS) is Connected
    made.listen(8080)
    assert cell.host.connect(made, 8080) is Connected


def test_an_attach_waits_for_an_envoy_that_dies_in_the_middle(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    """Frozen first, so that the attach waits for its answer; then killed, and back by itself."""
    place = netns("web")
    cell.host.run("kill", "-STOP", str(cell.envoy_pid))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(attach, "acme/shop/web", to=place)
        eventually(lambda: "web" in os.listdir(cell.lab.root / "run/cellnet/netns"))
        cell.kill("envoy", again=True)
        assert cell.host.connect(waiting.result(), TLS) is Connected


def test_a_refusal_of_envoy_is_reported_in_its_words_and_undone(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    place, pins = netns("web"), cell.lab.root / "run/cellnet/netns"
    mode = pins.stat().st_mode
    pins.chmod(0o700)  # Envoy's user does not get to the namespace
    try:
        with nothing_left(cell, place), pytest.raises(HostRefused, match="Envoy refused listener"):
            attach("acme/shop/web", to=place)
    finally:
        pins.chmod(mode)
    assert cell.status().flag("ok")
    assert cell.host.connect(attach("acme/shop/web", to=place), TLS) is Connected


def test_without_envoy_nothing_is_attached_and_its_ports_stay_taken(
    cell: CellUnderTest, attach: Attach, netns: MakeNetns
) -> None:
    web, place = attach("acme/shop/web"), netns("api")
    cell.kill("agent")
    cell.start()
    cell.kill("envoy")
    with pytest.raises(OSError, match="Address already in use"):
        web.listen(TLS)
    with nothing_left(cell, place), pytest.raises(Unavailable, match="Envoy is not connected"):
        attach("acme/shop/api", to=place)
    cell.start()
    eventually(lambda: cell.host.connect(web, TLS) is Connected)  # well is: connected; its listeners follow at once
    assert cell.host.connect(attach("acme/shop/api", to=place), TLS) is Connected
