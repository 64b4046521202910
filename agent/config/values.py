"""From nodes to typed values: nothing is guessed, a value that YAML 1.1 would convert oddly is refused with advice.

A reader takes a node and a report; it returns the value, or None after it has reported what is wrong.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from agent.config.problems import Report
from agent.config.source import Broken, Listing, Node, Scalar, Table
from agent.errors import InvalidInput
from agent.wording import did_you_mean

T = TypeVar("T")
Reader = Callable[[Node, Report], T | None]


@dataclass(frozen=True, slots=True)
class Key:
    """Stands in the annotation of a field of Config: reading, checking and the reference all go by it.

    `meaning` is one line for the reference; `shown` its default where that is not the field's own; `live`: a reload takes it.
    """

    read: Reader[object]
    meaning: str
    shown: str = ""
    live: bool = False


class Kind(Enum):
    """What YAML 1.1 would make of a plain scalar; the value completes the sentence "found …"."""

    TEXT = "text"
    INTEGER = "a number"
    NULL = "nothing"
    BOOLEAN = "what YAML reads as true or false"
    ODD = "what YAML may read as another number"
    FLOAT = "what YAML reads as a fraction"
    DATE = "what YAML reads as a date"


KINDS = (
    (re.compile(r"~|null|Null|NULL|"), Kind.NULL),
    (re.compile(r"y|yes|on|true|n|no|off|false", re.IGNORECASE), Kind.BOOLEAN),
    (re.compile(r"0|[1-9][0-9]*"), Kind.INTEGER),
    (re.compile(r"[-+]?(0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*(:[0-5]?[0-9])*)"), Kind.ODD),
    (re.compile(r"[-+]?(\.[0-9_]+|[0-9][0-9_:]*(\.[0-9_]*)?)(e[-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE), Kind.FLOAT),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?"), Kind.DATE),
)
DECIMAL = "write a plain decimal number, without quotes, sign, prefix or leading zero"
QUOTES = "put it in quotes if it is meant as text"


def kind(scalar: Scalar) -> Kind:
    """What the scalar is; whatever was quoted is text."""
    if not scalar.plain or "/" in scalar.text:
        return Kind.TEXT
    return next((found for pattern, found in KINDS if pattern.fullmatch(scalar.text)), Kind.TEXT)


def described(node: Node) -> str:
    """The node in words, for "expected …, found …"."""
    match node:
        case Listing():
            return "a list"
        case Table():
            return "a mapping"
        case Scalar():
            what = kind(node)
            return what.value if what is Kind.NULL else f"'{node.text}', {what.value}"
        case Broken():
            return "nothing"


def text(node: Node, report: Report) -> str | None:
    """Text, quoted or such that no YAML reader converts it."""
    if isinstance(node, Scalar) and kind(node) is Kind.TEXT:
        return node.text
    hint = QUOTES if isinstance(node, Scalar) and kind(node) is not Kind.NULL else ""
    report.wrong(node, f"expected text, found {described(node)}", hint=hint)
    return None


def parsed(convert: Callable[[str], T]) -> Reader[T]:
    """A reader of text that `convert` understands; convert raises InvalidInput."""

    def read(node: Node, report: Report) -> T | None:
        value = None
        if isinstance(node, Scalar) and kind(node) is not Kind.NULL:
            value = reported(lambda: convert(node.text), node, report)
            if value is None or kind(node) is Kind.TEXT:
                return value  # the converter's hint helps more than "put it in quotes"
        text(node, report)
        return None

    return read


def reported(make: Callable[[], T], node: Node, report: Report) -> T | None:
    """The value made, or None with the InvalidInput reported at the node."""
    try:
        return make()
    except InvalidInput as error:
        report.wrong(node, error.what, hint=error.hint)
        return None


def integer(*, low: int, high: int, what: str) -> Reader[int]:
    """A reader of a plain decimal number from low to high; `what` names it ("a port")."""

    def read(node: Node, report: Report) -> int | None:
        if not isinstance(node, Scalar) or kind(node) is not Kind.INTEGER:
            report.wrong(node, f"expected {what}, found {described(node)}", hint=DECIMAL)
            return None
        number = int(node.text[: len(str(high)) + 1])
        if low <= number <= high:
            return number
        report.wrong(
            node, f"{what.partition(' ')[2]} {clipped(node.text)} is out of range", hint=f"{low} to {high} is possible"
        )
        return None

    return read


def auto_or(read: Reader[T]) -> Reader[T]:
    """A reader that takes the word `auto` for None, without noting anything."""

    def read_or_auto(node: Node, report: Report) -> T | None:
        return None if isinstance(node, Scalar) and node.text == "auto" else read(node, report)

    return read_or_auto


def choice(options: Mapping[str, T]) -> Reader[T]:
    """A reader of one of a few words."""

    def read(node: Node, report: Report) -> T | None:
        if not isinstance(node, Scalar) or kind(node) is Kind.NULL:
            report.wrong(node, f"expected a word, found {described(node)}", hint=f"one of: {', '.join(options)}")
            return None
        if node.text not in options:  # `on` and 1 too: quotes would not help
            report.wrong(node, f"'{clipped(node.text)}' is not possible here", hint=f"one of: {', '.join(options)}")
        return options.get(node.text)

    return read


def listing(read_item: Reader[T]) -> Reader[tuple[T, ...]]:
    """A reader of a list, whose items are all read, so that each mistake in it is reported."""

    def read(node: Node, report: Report) -> tuple[T, ...] | None:
        if not isinstance(node, Listing):
            report.wrong(node, f"expected a list, found {described(node)}", hint="e.g. [a, b]")
            return None
        items = [read_item(item, report) for item in node.items]
        good = tuple(item for item in items if item is not None)
        return good if len(good) == len(items) else None

    return read


def table(node: Node, report: Report, *, keys: Iterable[str], what: str) -> dict[str, tuple[Scalar, Node]] | None:
    """The entries of a mapping by key. Unknown keys are reported, with the key that was probably meant, and left out."""
    if not isinstance(node, Table):
        report.wrong(node, f"expected {what}, found {described(node)}")
        return None
    known = frozenset(keys)
    for key, _ in node.entries:
        if key.text not in known:
            report.wrong(key, f"unknown key '{clipped(key.text)}'", hint=suggestion(key.text, keys))
    return {key.text: (key, value) for key, value in node.entries if key.text in known}


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean 'from'?`, or the possible ones where nothing is near."""
    names = list(known)
    section, dot, key = word.partition(".")
    if dot and section in names:
        return f"a dot is for the command line; here '{clipped(key)}' stands below '{section}:'"
    return did_you_mean(word, names, otherwise=f"possible: {', '.join(names)}")


def clipped(word: str, *, length: int = 80) -> str:
    """A word for a message: short, on one line."""
    shown = " ".join(word.split())
    return shown if len(shown) <= length else shown[:length] + "…"
