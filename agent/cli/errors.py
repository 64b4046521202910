"""Errors as exit codes and one line on standard error: `error: what; hint: what to do`."""

import os
from collections.abc import Iterable

import click

from agent.cli.output import colour
from agent.client.connection import Refused
from agent.errors import RAISED, InvalidInput, NotFound

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


def print_error(what: str, *, hint: str = "") -> None:
    """Print one error. What spans lines (a file's errors) has its hint on a line of its own."""
    _print(click.style("error:", fg="red", bold=True), what, hint=hint)


def print_warning(what: str, *, hint: str = "") -> None:
    """Print what is no failure of the command, in the same way."""
    _print(click.style("warning:", fg="yellow", bold=True), what, hint=hint)


def print_warnings(texts: Iterable[str]) -> None:
    """Print what the agent warns of."""
    for each in texts:
        print_warning(each)


def _print(kind: str, what: str, *, hint: str) -> None:
    line = f"{kind} {what.rstrip()}"
    if hint:
        line += f"\nhint: {hint}" if "\n" in what else f"; hint: {hint}"
    click.echo(line, err=True, color=colour())


def report(error: Exception) -> int:
    """Print `error`, and return the exit code. Raises what is not expected, traceback and all."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return WRONG_USAGE
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "cellnet"
        print_error(error.format_message().rstrip("."), hint=f"see '{command} --help'")
        return WRONG_USAGE
    if isinstance(error, click.Abort):
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        print_error(error.format_message())
        return FAILED
    if isinstance(error, RAISED + (Refused,)):
        print_error(error.what, hint=error.hint)
        return WRONG_USAGE if isinstance(error, InvalidInput) and not isinstance(error, NotFound) else FAILED
    if isinstance(error, OSError) and error.filename is not None:
        print_error(f"{os.fsdecode(error.filename)}: {error.strerror}")
        return FAILED
    raise error
