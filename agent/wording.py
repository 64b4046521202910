"""Phrases that many messages share."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime


def listed(names: Sequence[str], *, most: int = 3, separator: str = ", ") -> str:
    """`a, b, c and 4 more`: the first `most`, and how many there are besides."""
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def written_moment(at: datetime) -> str:
    """`2030-01-02T03:04:05Z`; `at` is UTC."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def printable(text: str) -> str:
    """With no character that a terminal obeys: the text may be another's."""
    return "".join(each if each.isprintable() else "?" for each in text)


def natural(name: str) -> tuple[str | int, ...]:
    """A key to sort names by: `app-2` before `app-10`."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", name))


def program() -> str:
    """How this command line is called: under sudo, whose PATH has no .venv/bin, by its whole path."""
    path = os.path.abspath(sys.argv[0])
    return path if os.path.basename(path) == "cellnet" else "cellnet"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `word` was probably meant to be, None where nothing is near."""
    from difflib import get_close_matches  # slow to import, and only mistakes need it

    found = get_close_matches(word[:64].lower(), sorted(known), n=1)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """`did you mean 'from'?`, or `otherwise` where nothing is near."""
    near = nearest(word, known)
    return otherwise if near is None else f"did you mean '{near}'?"
