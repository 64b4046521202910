"""The command that a user has given: this process becomes it, or says as a shell does why it cannot."""

import os
import signal
from collections.abc import Mapping, Sequence

from agent.cli.errors import print_error

NOT_FOUND, NOT_EXECUTABLE = 127, 126
PYTHONS = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores and other programs do not expect to be ignored."""


def execute(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Become `command`, with `environment` added to ours and the signals that Python changed put back. Raises OSError."""
    for each in PYTHONS:
        signal.signal(each, signal.SIG_DFL)
    os.execvpe(command[0], list(command), {**os.environ, **environment})  # noqa: S606 -- no shell is the point


def execute_or_say(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The same; what a shell would return where it cannot be run, which is then said on standard error."""
    try:
        execute(command, environment)
    except FileNotFoundError:
        print_error(f"cannot run {command[0]}: no such command")
        return NOT_FOUND
    except OSError as error:
        print_error(f"cannot run {command[0]}: {error.strerror}")
    return NOT_EXECUTABLE
