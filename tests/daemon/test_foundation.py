"""What is there before the loop: an underlay that cannot be read ends nothing."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar, cast

import pytest

from agent.config.load import load
from agent.daemon.parts import foundation
from agent.errors import HostRefused
from dataplane.kernel import Kernel
from host.errors import all_refused

Result = TypeVar("Result")


class Thread:
    """The kernel's thread, as far as it is used here."""

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        done: Future[Result] = Future()
        try:
            done.set_result(all_refused()(work)())
        except BaseException as error:
            done.set_exception(error)
        return done


@pytest.mark.parametrize("error", [OSError(105, "No buffer space available"), OSError(24, "Too many open files")])
async def test_a_failure_to_read_the_underlay_is_the_hosts_refusal(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object) -> None:
        raise error

    (tmp_path / "agent.yaml").touch()
    config = load(tmp_path / "agent.yaml", root=tmp_path, hostname="one")
    monkeypatch.setattr(foundation, "find_underlay", fails)
    with pytest.raises(HostRefused):
        await foundation.follow_underlay(config, cast("Kernel", Thread())).refresh()
