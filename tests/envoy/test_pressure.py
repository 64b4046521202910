"""Envoy near its limits is a problem that `status` names, by Envoy's own counters."""

import asyncio
from collections.abc import Mapping
from functools import partial

from agent.envoy.pressure import COUNTERS, LOST, Pressure
from agent.errors import Unavailable
from dataplane.envoy.process import admin
from dataplane.envoy.process.overload import CALLERS, HEAP
from tests.testlib.envoy import EnvoyCell
from tests.testlib.patience import eventually


def seen(counters: Mapping[str, int]) -> Pressure:
    made = Pressure(lambda: counters, connected=lambda: True)
    asyncio.run(made.look())
    return made


def test_an_envoy_with_little_left_is_named() -> None:
    assert list(seen({f"overload.{HEAP}.pressure": 74, f"overload.{CALLERS}.pressure": 89}).problems()) == []
    heap, callers = seen({f"overload.{HEAP}.pressure": 75, f"overload.{CALLERS}.pressure": 90}).problems()
    assert heap.what == "Envoy takes 75 % of the memory that it may: the streams that hold most are ended"
    assert callers.what == "Envoy serves 90 % of the connections that it may"


def test_what_envoy_does_not_answer_is_no_problem_of_this_kind() -> None:
    def silent() -> Mapping[str, int]:
        raise Unavailable("Envoy's admin socket does not answer")

    made = Pressure(silent, connected=lambda: True)
    asyncio.run(made.look())
    assert (list(made.problems()), made.lost()) == ([], 0)


def test_envoy_has_counters_of_these_names(cell: EnvoyCell) -> None:
    eventually(cell.envoy.is_live)
    ask = partial(admin.counters, cell.envoy.settings.admin, COUNTERS)
    eventually(lambda: set(COUNTERS) - {LOST} <= ask().keys())


def test_a_counter_that_envoy_does_not_have_is_left_out(cell: EnvoyCell) -> None:
    eventually(cell.envoy.is_live)
    assert admin.counters(cell.envoy.settings.admin, ["overload.nothing", "server.live"]) == {"server.live": 1}
