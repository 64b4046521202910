"""A random walk over a cell or three: whatever happened, and in whatever order, a table of real connections between all
containers, and one of those to the outside and from there, is what an independent oracle says; and so is what `explain` says
of some of them. `test_plain.py`, `test_alone.py` and `test_strict.py` walk, each in a process of its own.

WALK_SEED=N walks another way, WALK_STEPS=N longer.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from lab.segment import OUTSIDE
from tests.testlib.agents.prompt import PromptCell
from tests.testlib.cells import CellsUnderTest
from tests.testlib.oracle import Mode
from tests.walk.calls import Call, Outcome
from tests.walk.explanations import Explanations
from tests.walk.model import Model
from tests.walk.steps import Steps
from tests.walk.world import World

KINDS = {
    "attach", "attach_in_vain", "detach", "kill_container", "write_file", "spoil_file", "remove_file", "allow", "apply",
    "delete", "allow_in_vain", "kill_agent", "kill_envoy", "restart_envoy", "start", "partition", "heal", "stop_etcd",
    "start_etcd",
}  # fmt: skip
TOLD = 5  # mismatches that are explained


SECONDS = 1_200  # that a walk may take


def walk(make_cells: Callable[..., CellsUnderTest], mode: Mode, *, usual: tuple[int, int], cells: int = 3) -> None:
    """After every step the connections are those that the policies allow. `usual`: seed and steps, unless others are asked for,
    of a way on which every kind of step is met.
    """
    seed, count = way = (int(os.environ.get("WALK_SEED", usual[0])), int(os.environ.get("WALK_STEPS", usual[1])))
    model = Model(cells, mode)
    overrides = (f"tls.mtls={mode.value}", f"dns.upstreams=['{OUTSIDE.ip}']")
    world = World(make_cells(cells, *overrides, kind=PromptCell), model)
    steps = Steps(Random(seed), model)
    seen: Counter[Outcome | None] = Counter()
    done: Counter[str] = Counter()
    seen_beyond: Counter[Outcome | None] = Counter()
    ended = cut_beyond = explained = 0
    explanations = Explanations(world, Random(seed))
    try:
        for number in range(1, count + 1):
            step, began = steps.next(), time.monotonic()
            print(f"seed {seed}, step {number}: {step}")
            getattr(world, step.do)(*step.arguments)
            acted = time.monotonic()
            done[step.do] += 1
            world.settle()
            settled = time.monotonic()
            expected = compare(world)
            seen.update(expected.values())
            ended += world.judge_streams(expected) if not world.recovers() else 0
            beyond = compare_beyond(world)
            seen_beyond.update(beyond.values())
            cut_beyond += world.beyond.judge_streams(beyond)
            explained += explanations.compare(expected | beyond)
            print(
                f"    {acted - began:.2f} s, settled {settled - acted:.2f} s later, tried in {time.monotonic() - settled:.2f} s"
            )
    except BaseException:
        print(world.told())
        raise
    finally:
        world.close()
    print(f"seed {seed}: {seen}, {done}, {ended} streams ended")
    print(f"outside {seen_beyond}, {cut_beyond} connections cut; {explained} ways explained")
    if way == usual:
        for each in (seen, seen_beyond) if cells > 1 else (seen_beyond,):
            assert {Outcome.ALLOWED, Outcome.REFUSED, Outcome.SILENT} <= each.keys()
        assert cut_beyond
        assert explained
        assert done.keys() == KINDS
        assert (ended > 0) == (mode is Mode.STRICT)
    for each in (seen, seen_beyond):
        assert each[None] < each.total() / 20, "the oracle must know nearly always"


def compare(world: World) -> dict[Call, Outcome | None]:
    """The oracle's table, if it is the real one."""
    expected, table = world.model.table(), world.tried()
    while wrong := [call for call, outcome in expected.items() if not world.model.agrees(call, outcome, table.found[call])]:
        if not (world.recovers() and all(world.model.in_tunnel(call) and expected[call] is Outcome.ALLOWED for call in wrong)):
            break
        table = world.tried()
    assert not table.strange, "\n".join(table.strange)
    for call in wrong[:TOLD]:
        print(f"{call} is {table.found[call]}, not {expected[call]}:\n{world.explained(call)}\n")
    assert not wrong, "\n".join(f"{call}: {table.found[call]} instead of {expected[call]}" for call in wrong)
    return expected


def compare_beyond(world: World) -> dict[Call, Outcome | None]:
    """The same for all calls to the outside, and from there."""
    expected = world.model.outside_table()
    table = world.beyond.tried(expected)
    assert not table.strange, "\n".join(table.strange)
    while (wrong := world.model.agrees_outside(expected, table.found)) and world.recovers():
        table = world.beyond.tried(expected)  # a neighbour that did not answer is asked again a moment later
    assert not wrong, "\n".join(
        f"{call}: {table.found[call]}, expected {expected[call]} or, with a limit, so many" for call in wrong
    )
    return expected
