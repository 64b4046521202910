"""Mistakes in a text as values: where, what, and what to do, printed with the offending line and a caret.

Reading collects them in a Report, so that one look at a file shows all that is wrong with it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from agent.errors import InvalidInput

MAX_PROBLEMS = 50
SNIPPET = 120

LINE_END = re.compile(r"\r\n|\r|\n")
UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")

UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")


class Position(Protocol):
    """Whatever has a position in the text."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake. `line` and `column` count from 1; line 0 means the file as a whole.

    `text` is the offending line (of a very long one, the part around the place), `caret` the column's place in it, `note`
    a last line, about what follows from it.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    text: str = ""
    caret: int = 1
    note: str = ""

    def __str__(self) -> str:
        """`file:line:col: message`, then the line and a caret under the place, then the hint and the note."""
        file = UNSPEAKABLE.sub("\ufffd", self.file)
        place = f"{file}:{self.line}:{self.column}" if self.line else file
        shown = [f"{place}: {self.message}"]
        if self.text:
            padding = "".join("\t" if char == "\t" else " " for char in self.text[: self.caret - 1])
            shown += [UNPRINTABLE.sub("\ufffd", self.text), padding + "^"]
        if self.hint:
            shown.append(f"hint: {self.hint}")
        if self.note:
            shown.append(self.note)
        return "\n".join(shown)


class InvalidSource(InvalidInput):
    """A text with mistakes: `problems` lists them all, never empty, in the order of the text."""

    def __init__(self, problems: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(slots=True)
class Report:
    """Collects the problems of one text."""

    file: str
    text: str = ""
    problems: list[Mistake] = field(default_factory=list)
    more: int = 0
    _lines: list[str] | None = None

    def add(self, line: int, column: int, message: str, *, hint: str = "") -> None:
        """Report one mistake at a place; beyond MAX_PROBLEMS they are only counted."""
        if len(self.problems) >= MAX_PROBLEMS:
            self.more += 1
            return
        if self._lines is None:
            self._lines = LINE_END.split(self.text)
        text = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        start = max(0, column - 1 - SNIPPET // 2) if len(text) > SNIPPET else 0
        shown = text[start : start + SNIPPET]
        self.problems.append(Mistake(self.file, line, column, _spoken(message), _spoken(hint), shown, column - start))

    def wrong(self, place: Position, message: str, *, hint: str = "") -> None:
        """Report one mistake where `place`, a node, starts; line 0 means that it was reported before."""
        if place.line:
            self.add(place.line, place.column, message, hint=hint)

    def found(self) -> tuple[Mistake, ...]:
        """Everything reported, in the order of the text."""
        found = sorted(self.problems, key=lambda problem: (problem.line, problem.column))
        if self.more:
            found.append(Mistake(self.file, 0, 0, f"{self.more} more problems", "mend the first ones, then look again"))
        return tuple(found)

    def raise_if_any(self) -> None:
        """Raise InvalidSource with everything reported, or return."""
        raise_all((self,))


def raise_all(reports: Iterable[Report]) -> None:
    """Raise InvalidSource with the problems of all reports, or return where there is none."""
    problems = tuple(problem for report in reports for problem in report.found())
    if problems:
        raise InvalidSource(problems)


def _spoken(words: str) -> str:
    """Words that may quote any value: on one line, no longer than a reader bears, nothing that a terminal obeys."""
    plain = UNSPEAKABLE.sub("\ufffd", words)
    return plain if len(plain) <= 2 * SNIPPET else f"{plain[:SNIPPET]}…{plain[-SNIPPET:]}"
