"""`cellnet up` starts nothing beside an agent that is not its child."""

import sys
import threading
from collections.abc import Callable

import pytest

from agent import log
from agent.daemon import lock, up
from agent.errors import Conflict
from host.namespace import run_in
from tests.testlib.netns import Netns


def test_an_agent_that_stays_is_a_conflict(netns: Callable[[str], Netns], capfd: pytest.CaptureFixture[str]) -> None:
    log.configure()
    host = netns("host")
    held = run_in(host.path, lambda: lock.take(on_foreign=print))
    with pytest.raises(Conflict, match="an agent runs in this network namespace already"):
        run_in(host.path, lambda: up._await_former_agent(seconds=0.2))
    assert capfd.readouterr().err.count('"what": "an agent runs in this network namespace already') == 1, "said while it waits"
    held.close()


def test_one_that_is_about_to_end_is_waited_for(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    held = run_in(host.path, lambda: lock.take(on_foreign=print))
    ending = threading.Timer(0.2, held.close)
    ending.start()
    run_in(host.path, lambda: up._await_former_agent(seconds=30))
    ending.join()
    run_in(host.path, lambda: up._await_former_agent(seconds=0))


@pytest.mark.parametrize("given", [[], ["--root", "/srv/cell"], ["--root", "up"], ["--config", "up", "--root", "up"]])
def test_the_children_are_given_the_options_before_the_command(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cellnet", *given, "up"])
    assert up._globals() == given
