"""An Envoy that does not answer is a problem, from its first missing answer to the next one."""

import asyncio

import pytest

from agent.envoy.liveness import Liveness
from agent.errors import Unavailable
from tests.testlib.patience import eventually_async


async def test_an_envoy_is_hung_from_its_first_missing_answer_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.envoy.liveness.EVERY", 0.001)
    now, connected, answers = 100.0, True, False

    def ask() -> None:
        if not answers:
            raise Unavailable("no answer")

    liveness = Liveness(ask, connected=lambda: connected, clock=lambda: now)
    following = asyncio.create_task(liveness.run())
    try:
        await eventually_async(lambda: liveness.problem is not None)
        now = 112.0
        assert "has not answered for 12 s" in str(liveness.problem)
        connected = False
        assert liveness.problem is None, "one that is not connected is reported as that"
        connected, answers = True, True
        await eventually_async(lambda: liveness.problem is None)
    finally:
        following.cancel()
