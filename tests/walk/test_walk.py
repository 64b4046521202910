"""A random walk over three cells: whatever happened, and in whatever order, a table of real connections between all containers
is what an independent oracle says.

WALK_SEED=N walks another way, WALK_STEPS=N longer.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from tests.testlib.cells import CellsUnderTest
from tests.walk.model import Model
from tests.walk.steps import Steps
from tests.walk.table import Call, Outcome
from tests.walk.world import World

USUAL = (32, 200)  # a way on which every kind of step is met
SEED, STEPS = int(os.environ.get("WALK_SEED", USUAL[0])), int(os.environ.get("WALK_STEPS", USUAL[1]))
KINDS = {
    "attach", "attach_in_vain", "detach", "kill_container", "write_file", "spoil_file", "remove_file", "allow", "apply",
    "delete", "allow_in_vain", "kill_agent", "kill_envoy", "restart_envoy", "start", "partition", "heal", "stop_etcd",
    "start_etcd",
}  # fmt: skip
TOLD = 5  # mismatches that are explained


@pytest.mark.timeout(180 + 5 * STEPS)
def test_after_every_step_the_connections_are_those_that_the_policies_allow(
    make_cells: Callable[[int], CellsUnderTest],
) -> None:
    model = Model(3)
    world = World(make_cells(3), model)
    steps = Steps(Random(SEED), model)
    seen: Counter[Outcome | None] = Counter()
    done: Counter[str] = Counter()
    try:
        for number in range(1, STEPS + 1):
            step, began = steps.next(), time.monotonic()
            print(f"seed {SEED}, step {number}: {step}")
            getattr(world, step.do)(*step.arguments)
            acted = time.monotonic()
            done[step.do] += 1
            world.settle()
            settled = time.monotonic()
            seen.update(compare(world).values())
            print(
                f"    {acted - began:.2f} s, settled {settled - acted:.2f} s later, tried in {time.monotonic() - settled:.2f} s"
            )
    except BaseException:
        print(world.told())
        raise
    finally:
        world.close()
    print(f"seed {SEED}: {seen}, {done}")
    if (SEED, STEPS) == USUAL:
        assert {Outcome.ALLOWED, Outcome.REFUSED, Outcome.SILENT} <= seen.keys()
        assert done.keys() == KINDS
    assert seen[None] < seen.total() / 20, "the oracle must know nearly always"


def compare(world: World) -> dict[Call, Outcome | None]:
    """The oracle's table, if it is the real one."""
    expected, table = world.model.table(), world.tried()
    wrong = [call for call, outcome in expected.items() if outcome not in (None, table.found[call])]
    assert not table.strange, "\n".join(table.strange)
    for call in wrong[:TOLD]:
        print(f"{call} is {table.found[call]}, not {expected[call]}:\n{world.explained(call)}\n")
    assert not wrong, "\n".join(f"{call}: {table.found[call]} instead of {expected[call]}" for call in wrong)
    return expected
