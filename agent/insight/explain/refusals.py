"""The last times that this cell refused it, and what is wrong with this cell."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from agent.insight.explain.way import AskedWay, WayStep
from agent.insight.refusals.denied import Denied, Pair, Reason, times
from agent.model.policy import Protocol
from agent.model.status import Problem
from agent.wording import written_moment

CONCERNING: Final = frozenset(
    {"kernel", "store", "overlay", "cell", "firewall", "envoy", "dns", "policies", "tags", "identity"}
)
"""Areas of problems that may stop what policies allow."""
SHOWN: Final = 10
WORDS: Final = {
    Reason.STRICT: "it came in plain text, where tunnels alone pass",
    Reason.LIMIT: "more than the container may begin or have open",
    Reason.SPOOFED: "its sender has not the address that it shows",
    Reason.INVALID: "it belongs to no connection that is known",
    Reason.AUDIT: "only a policy in audit allows it",
    Reason.TUNNEL: "Envoy refused it, for another reason than policies",
}


class RefusalSteps:
    """By what `cellnet flows --denied` shows."""

    def __init__(self, denied: Denied) -> None:
        self._denied = denied

    async def steps(self, way: AskedWay) -> Iterator[WayStep]:
        """A step for each reason."""
        ends = (str(way.source), str(way.to), way.protocol.value)
        ports = {way.port, 0} if way.protocol is Protocol.TCP else {way.port}  # 0: a tunnel, for it or for another port
        return (
            WayStep(
                "refused", None, f"{_did(pair)} here {times(each.count)}, the last at {written_moment(each.last)}: {_why(pair)}"
            )
            for pair, each in self._denied.tallies()
            if pair[:3] == ends and pair.port in ports
        )


class ProblemSteps:
    """`problems` are those of this cell's status."""

    def __init__(self, problems: Callable[[], Iterable[Problem]]) -> None:
        self._problems = problems

    async def steps(self, _way: AskedWay) -> Iterable[WayStep]:
        """Those that may have to do with it; the gravest first."""
        found = [each for each in self._problems() if each.area in CONCERNING]
        steps = [WayStep("this cell", None, *_in_two_lines(each)) for each in found[:SHOWN]]
        if len(found) > SHOWN:
            steps.append(WayStep("this cell", None, f"{len(found) - SHOWN} more problems", "see 'cellnet status'"))
        return steps


def _did(pair: Pair) -> str:
    return "passed" if pair.reason is Reason.AUDIT else "refused"


def _why(pair: Pair) -> str:
    return f"{pair.reason} ({WORDS[pair.reason]})" if pair.reason in WORDS else str(pair.reason)


def _in_two_lines(problem: Problem) -> tuple[str, str]:
    """A mistake in a file has the line with it and a caret, and ends with what stays in force."""
    first, *more = problem.what.splitlines()
    return first, problem.hint or (more[-1] if more else "")
