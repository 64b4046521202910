"""An agent whose clock a test sets: `python -m tests.testlib.agents.clocked ROOT`. The offset in seconds is in ROOT/clock.

How often the agent has asked for the time is in ROOT/clock.asked, so that a loop that never rests is seen.
"""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

from agent.client.location import Location
from agent.daemon.clock import Clock, utc_now
from agent.daemon.main import run_agent
from tests.testlib.unsupervised_cell import ModuleAgentCell

DAY = timedelta(days=1)
FIRST_OFFSET = -3 * DAY


class ClockedCell(ModuleAgentCell):
    """Its agent is three days behind at first, so that its authorities are older than any jump."""

    module = "tests.testlib.agents.clocked"

    def make(self, overrides: Sequence[str] = ()) -> None:
        """As Cell.make."""
        super().make(overrides)
        self.set_clock(FIRST_OFFSET)

    def set_clock(self, offset: timedelta) -> None:
        """What the agent's clock is ahead of ours from now on."""
        new = self.root / ".clock.new"
        new.write_text(str(offset.total_seconds()))
        new.rename(self.root / "clock")

    def now(self) -> datetime:
        """What its clock shows."""
        return shown(self.root)

    def asked(self) -> int:
        """How often it has looked at it."""
        return int((self.root / "clock.asked").read_text() or 0)


def shown(root: Path) -> datetime:
    return utc_now() + timedelta(seconds=float((root / "clock").read_text()))


def main(root: Path) -> int:
    numbers = count(1)

    def now() -> datetime:
        (root / "clock.asked").write_text(str(next(numbers)))
        return shown(root)

    return run_agent(Location(root=root, config=None).load(), clock=Clock(now=now))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
