"""The passphrase of a root's key, or of a backup: from a file, or asked for on the terminal. It stays in this process."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])


def passphrase_file_option(command: Command, *, of: str) -> Command:
    """Adds `--passphrase-file`."""
    option = click.option(
        "--passphrase-file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
        help=f"Read the passphrase of {of} there, instead of asking for it.",
    )  # fmt: skip
    return option(command)


def passphrase_option(command: Command) -> Command:
    """Adds `--passphrase-file`, of the root's key."""
    return passphrase_file_option(command, of="the root's key")


def new_passphrase(file: Path | None, *, ask: bool, of: str = "the root's key") -> bytes | None:
    """That for a new key or backup: of `file`, asked for, or none. Raises CaRefused."""
    if file is not None or not ask:
        return None if file is None else _read(file)
    return _asked(f"passphrase for {of}", again=True)


def passphrase_of(folder: Path, file: Path | None) -> bytes | None:
    """That of the root's key in `folder`; None where it has none. Raises CaRefused."""
    from ca.disk import has_locked_root

    return ask_passphrase(folder, file, needed=has_locked_root(folder))


def ask_passphrase(folder: Path, file: Path | None, *, needed: bool) -> bytes | None:
    """That of `file`; if there is none and it is `needed`, what is typed. Raises CaRefused."""
    return known_passphrase(file, needed=needed, of=folder / "root.key")


def known_passphrase(file: Path | None, *, needed: bool, of: Path) -> bytes | None:
    """As `ask_passphrase`, of any file that is under one."""
    if file is not None or not needed:
        return None if file is None else _read(file)
    return _asked(f"passphrase of {of}", again=False)


@contextlib.contextmanager
def refusals_reported() -> Iterator[None]:
    """The CA's refusals as errors of the command."""
    from agent.errors import HostRefused
    from ca.errors import CaRefused

    try:
        yield
    except CaRefused as error:
        raise HostRefused(error.what, hint=error.hint) from error


def _read(file: Path) -> bytes:
    from ca.errors import CaRefused
    from ca.files import read_secret

    found = read_secret(file)
    if found is None:
        raise CaRefused(f"{file} is not there", hint="name the file that has the passphrase")
    line, _, more = found.partition(b"\n")
    if not line or more:
        raise CaRefused(f"{file} does not hold one line", hint="the passphrase is its only line")
    return line


def _asked(what: str, *, again: bool) -> bytes:
    from ca.errors import CaRefused

    if not sys.stdin.isatty():
        raise CaRefused(f"there is no terminal to ask for the {what}", hint="give it by --passphrase-file FILE")
    given: str = click.prompt(what, hide_input=True, confirmation_prompt=again, err=True)
    return given.encode()
