"""What `cellnet doctor` finds: a check looks at one thing of the host and says how it is, or what is wrong and what mends it.

A check changes nothing and asks nothing outside of this cell and its etcd. What the agent reports of itself is asked of its own
parts, so that a fact has one place.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.errors import RAISED
from agent.model.status import Part, Problem


@dataclass(frozen=True, slots=True)
class Finding:
    """`about` is how it is, in a few words; `problems` are what to mend."""

    about: str = ""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class HostCheck:
    """`look` may raise what the host refuses, which is a problem then."""

    name: str
    look: Callable[[], Finding] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A check that was made."""

    name: str
    finding: Finding

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.finding.problems


def examine(checks: Iterable[HostCheck]) -> tuple[Diagnosis, ...]:
    """Make each, in order. What two of them say in the same words stands at the first."""
    seen: set[str] = set()
    made: list[Diagnosis] = []
    for check in checks:
        found = _made(check)
        new = tuple({each.what: each for each in found.problems if each.what not in seen}.values())
        seen |= {each.what for each in new}
        made.append(Diagnosis(check.name, Finding(found.about, new)))
    return tuple(made)


def _made(check: HostCheck) -> Finding:
    try:
        return check.look()
    except RAISED as error:
        return Finding("", (Problem("kernel", error.what, error.hint),))


def of_parts(*parts: Part, about: str = "") -> Finding:
    """What parts of the agent report."""
    return Finding(about, tuple(problem for part in parts for problem in part.problems()))
