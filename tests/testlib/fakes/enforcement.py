"""Enforcement without a loop."""

from agent.control.enforcement import Enforcement


class FakeEnforcement(Enforcement):
    """All is enforced at once."""

    def __init__(self) -> None:
        """No loop."""

    async def next(self) -> None:
        """Now."""

    async def at_last(self) -> None:
        """Now."""
