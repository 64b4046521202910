"""`--store-credentials FILE`: the rights for one change of the store. Read here, sent with that request, never kept.

    username: operator            or     cert: operator.crt
    password_file: password              key: operator.key

`password: …` may stand in the file itself. Names of files are seen from its folder. No word of these files gets into an error.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import click

from agent.errors import InvalidInput

Command = TypeVar("Command", bound=Callable[..., object])
PAIRS = (("username", "password"), ("username", "password_file"), ("cert", "key"))
WHAT = "write username and password_file (or password), or cert and key"
LARGEST = 64 << 10  # bytes


def credentials_option(command: Command) -> Command:
    """Adds `--store-credentials`."""
    option = click.option(
        "--store-credentials", "credentials", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
        help="Change the store with these rights instead of the cell's: YAML with username and password_file, or cert and key.",
    )  # fmt: skip
    return option(command)


def credentials_field(path: Path | None) -> Mapping[str, Mapping[str, str]]:
    """The field of the request's body; none without a file. Raises InvalidInput."""
    return {} if path is None else {"store_credentials": read(path)}


def read(path: Path) -> Mapping[str, str]:
    """The content of the file, with the contents of the files that it names."""
    given = _mapping(path)
    if tuple(sorted(given)) not in {tuple(sorted(pair)) for pair in PAIRS}:
        raise InvalidInput(f"{path} has no complete credentials", hint=WHAT)
    found = {name: text for name, text in given.items() if name in ("username", "password")}
    if "password_file" in given:
        found["password"] = _content(path.parent / given["password_file"]).strip("\n")
    if "cert" in given:
        found["cert"] = _content(path.parent / given["cert"], secret=False)
        found["key"] = _content(path.parent / given["key"])
    return found


def _mapping(path: Path) -> Mapping[str, str]:
    import yaml

    try:
        loaded = yaml.safe_load(_content(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise InvalidInput(f"{where} is not YAML", hint=WHAT) from None  # its words quote the file
    if not isinstance(loaded, dict) or not all(isinstance(each, str) for pair in loaded.items() for each in pair):
        raise InvalidInput(f"{path} is not a mapping of names to texts", hint=f"{WHAT}; put quotes around a password")
    return loaded


def _content(path: Path, *, secret: bool = True) -> str:
    """Of a file that only root can read, as seen through the one descriptor that is read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            raise InvalidInput(f"{path} is no file of credentials", hint=WHAT)
        if secret and (found.st_uid != 0 or found.st_mode & 0o077):
            raise InvalidInput(f"others than root may read {path}", hint=f"chown root {path}; chmod 600 {path}")
        try:
            return file.read().decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"{path} is not UTF-8", hint=WHAT) from None
