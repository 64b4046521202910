"""Refusals of the host or Envoy, named by the side that must act. The agent adds the kinds that only it can raise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class HintedError(Exception):
    """`what` went wrong, and what the operator or caller can do about it: `hint`."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what


class HostRefused(HintedError, OSError):
    """The kernel or a tool of this host refused a change."""


class Unexpected(HostRefused):
    """What a library, or our own code, raised unexpectedly; that error is the cause, with its traceback."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"unexpected: {type(error).__name__}: {error}", hint="please report this, with the agent's log")
        self.__cause__ = error


class Unavailable(HintedError, ConnectionError):
    """A part that cellnet needs (Envoy, the agent, a store) is not there now; the same call may work later."""


@contextmanager
def all_refused() -> Iterator[None]:
    """Raise any error of the block as HostRefused: the kernel's, or what a library on the way there raises unexpectedly."""
    try:
        yield
    except HostRefused:
        raise
    except OSError as error:
        raise HostRefused(f"the kernel refused: {error}", hint="see the kernel's log, and file descriptors left") from error
    except Exception as error:
        raise Unexpected(error) from error


@contextmanager
def refused_as(what: str, *, hint: str | Callable[[OSError], str] = "") -> Iterator[None]:
    """Raise any OSError of the block as HostRefused: `what`, and the system's words. A HostRefused passes as it is."""
    try:
        yield
    except HostRefused:
        raise
    except OSError as error:
        advice = hint if isinstance(hint, str) else hint(error)
        raise HostRefused(f"{what}: {error.strerror or error}", hint=advice) from error
