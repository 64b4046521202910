"""Errors named by the side that must act; the edges (CLI, control API) turn them into `error: what; hint: …` and a status code.

HostRefused and Unavailable come from the host; the others can only arise in the agent.
"""

from host.errors import HintedError, HostRefused, Unavailable

__all__ = ["RAISED", "Bug", "CellnetError", "Conflict", "HostRefused", "InvalidInput", "NotFound", "Unavailable"]


class InvalidInput(HintedError, ValueError):
    """The caller must change what was asked."""


class NotFound(InvalidInput):
    """What was named is not there."""


class Conflict(HintedError, RuntimeError):
    """What was asked clashes with what is there; the caller must choose. `taken` is the name, where another has it."""

    def __init__(self, what: str, *, hint: str = "", taken: str = "") -> None:
        super().__init__(what, hint=hint)
        self.taken = taken


class Bug(HintedError, AssertionError):
    """cellnet's own mistake, which should be reported."""

    def __init__(self, what: str, *, hint: str = "please report this, with the agent's log") -> None:
        super().__init__(what, hint=hint)


CellnetError = InvalidInput | Conflict | HostRefused | Unavailable | Bug
# the same, for `except`
RAISED = (InvalidInput, Conflict, HostRefused, Unavailable, Bug)
