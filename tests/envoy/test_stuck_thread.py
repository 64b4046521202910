"""An Envoy with a stuck thread: the others serve on, it ends itself when that lasts, and never for having been stopped."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from dataplane.envoy.process import admin
from host.errors import Unavailable
from tests.testlib.certificates import client_context
from tests.testlib.envoy import EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial_tls, exchange
from tests.testlib.patience import eventually
from tests.testlib.ptrace import frozen_thread

LIMIT = 3  # seconds


@pytest.fixture
def brief() -> Iterator[EnvoyCell]:
    """One that gives its threads no more than LIMIT."""
    made = EnvoyCell(stuck=LIMIT)
    try:
        made.start()
        eventually(lambda: made.status().connected)
        yield made
    finally:
        made.close()


def test_callers_are_served_while_the_main_thread_is_stuck_and_the_agent_gets_no_answer(
    cell: EnvoyCell, pair: EnvoyPair, app: EchoApp
) -> None:
    cell.serve(pair.workload(cell.leaf()))
    context = client_context(cell.ca.root.bundle())
    with dial_tls(pair.web.path, context) as live:
        with frozen_thread(cell.envoy.pid):
            assert exchange(live, b"still") == b"still"
            with dial_tls(pair.web.path, context) as new:
                assert exchange(new, b"new") == b"new"
            with pytest.raises(Unavailable, match="does not answer"):
                admin.answer(cell.envoy.settings.admin, timeout=0.3)
        assert exchange(live, b"again") == b"again"
    admin.answer(cell.envoy.settings.admin, timeout=10)


def test_an_envoy_that_is_stuck_for_long_ends_itself(brief: EnvoyCell) -> None:
    process = brief.envoy.process
    assert process is not None
    with frozen_thread(process.pid):
        eventually(lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGABRT


def test_an_envoy_that_was_stopped_for_long_goes_on(brief: EnvoyCell) -> None:
    process = brief.envoy.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(LIMIT + 1)
    os.kill(process.pid, signal.SIGCONT)
    admin.answer(brief.envoy.settings.admin, timeout=10)
    time.sleep(1)
    assert process.poll() is None
