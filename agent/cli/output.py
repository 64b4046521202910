"""How things are printed: tables for people, JSON for programs."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import click

from agent.client.answer import Fields

Command = TypeVar("Command", bound=Callable[..., object])


def colour() -> bool | None:
    """Never where the user (NO_COLOR) or the terminal (TERM) has none of it; None: wherever there is a terminal."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def json_option(command: Command) -> Command:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def print_json(content: Fields | object) -> None:
    """Indented, in the order in which the agent wrote it."""
    click.echo(json.dumps(content.value if isinstance(content, Fields) else content, indent=2, ensure_ascii=False))


def print_json_lines(rows: Iterable[Fields]) -> None:
    """Each on a line, for what may be long or goes on."""
    for each in rows:
        click.echo(json.dumps(each.value))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces apart; an empty cell shows as `-`."""
    cells = [list(heads), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([click.style(lines[0], bold=True), *lines[1:]])


def joined(names: Sequence[str]) -> str:
    """`a, b, c`."""
    return ", ".join(names)


def counted(number: str, noun: str, *, plural: str = "") -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun if number == '1' else plural or noun + 's'}"


def moment(text: str) -> str:
    """`2030-01-02T03:04:05Z` -> `2030-01-02 03:04:05`; times are UTC throughout."""
    return text.replace("T", " ").removesuffix("Z")
