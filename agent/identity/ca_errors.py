"""The CA's refusals in the agent's words. The CA knows no agent, so the translation happens where the two meet."""

from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import RAISED, HostRefused, InvalidInput
from ca.errors import CaRefused
from host.errors import Unexpected


@contextmanager
def as_invalid_input() -> Iterator[None]:
    """Turn CaRefused into InvalidInput with the same words, so that every edge of the agent can print it."""
    try:
        yield
    except CaRefused as error:
        raise InvalidInput(error.what, hint=error.hint) from error


@contextmanager
def as_host_refused() -> Iterator[None]:
    """Turn CaRefused into HostRefused, for files that the host would not take, and for its clock; and whatever else comes up:
    one certificate must not keep the others waiting."""
    try:
        yield
    except CaRefused as error:
        raise HostRefused(error.what, hint=error.hint) from error
    except RAISED:
        raise
    except Exception as error:
        raise Unexpected(error) from error
