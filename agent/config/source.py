"""From the bytes of a YAML file to nodes with positions, or to mistakes with file, line and column.

Configuration and policies are both read through this module, so that a mistake looks the same in either. It works on
libyaml's events instead of on loaded values: events still show what was quoted, tagged, aliased or written twice, so
nothing is converted behind the user's back, and nesting is bounded before it costs anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.config.problems import LINE_END, UNPRINTABLE, InvalidSource, Report

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 16

SYNTAX_HINTS = (
    ("cannot start any token", "YAML indents with spaces, never tabs; text that starts with @, ` or % needs quotes"),
    (
        "mapping values are not allowed",
        "text that contains ': ' needs quotes; else check the indentation, and the space after each colon",
    ),
    ("did not find expected alphabetic", "text that starts with * or & needs quotes"),
    ("did not find expected key", "check the indentation: keys of one mapping start in the same column"),
    ("did not find expected '-'", "check the indentation: items of one list start in the same column"),
    ("could not find expected ':'", "a key is followed by a colon and a space"),
    ("unexpected end of stream", "a quote or bracket that is opened here is never closed"),
    ("did not find expected ',' or", "a bracket that is opened here is never closed"),
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as written; `plain` is False where it was quoted and therefore can only be text."""

    text: str
    plain: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Listing:
    """A YAML sequence."""

    items: tuple["Node", ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Table:
    """A YAML mapping in the order written; no key occurs twice."""

    entries: tuple[tuple[Scalar, "Node"], ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Broken:
    """Something already reported; its readers report nothing more, hence line 0."""

    line: int = 0
    column: int = 0


Node = Scalar | Listing | Table | Broken
BROKEN = Broken()


def compose(content: bytes, *, file: str) -> tuple[Node | None, Report]:
    """The one document in `content` and a report to go on with.

    The node is None where there is nothing, and where size, encoding, control characters or YAML syntax make the
    rest unreadable; the report tells the two apart.
    """
    report = Report(file)
    try:
        text = _decode(content, report)
        _refuse_unprintable(text, report)
        return _compose(text, report), report
    except InvalidSource:
        return None, report


def _refuse_unprintable(text: str, report: Report) -> None:
    for match in UNPRINTABLE.finditer(text):
        line, column = _place(text, match.start())
        name = "a byte order mark" if match[0] == "\ufeff" else f"character U+{ord(match[0]):04X}"
        report.add(line, column, f"{name} is not allowed", hint="save the file as plain UTF-8 text")
        if report.more:
            break
    report.raise_if_any()


def _decode(content: bytes, report: Report) -> str:
    if len(content) > MAX_BYTES:
        hint = "is it the right one? policies may stand in several files"
        report.add(0, 0, f"the file has more than {MAX_BYTES} bytes", hint=hint)
        report.raise_if_any()
    try:
        report.text = content.decode()
    except UnicodeDecodeError as error:
        report.text = content.decode(errors="replace")
        line, column = _place(content[: error.start].decode(errors="replace"), None)
        report.add(line, column, f"byte 0x{content[error.start]:02x} is not UTF-8", hint="save the file as UTF-8")
        report.raise_if_any()
    return report.text


def _place(text: str, position: int | None) -> tuple[int, int]:
    """Line and column (from 1) of a position in `text`, None for its end."""
    before = text if position is None else text[:position]
    line, start = 1, 0
    for match in LINE_END.finditer(before):
        line, start = line + 1, match.end()
    return line, len(before) - start + 1


@dataclass(slots=True)
class _Open:
    """A sequence or mapping whose end has not been seen. `key` waits for its value."""

    is_table: bool
    line: int
    column: int
    items: list[Node] = field(default_factory=list)
    entries: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)
    key: Node | None = None

    def take(self, node: Node, report: Report) -> None:
        if not self.is_table:
            self.items.append(node)
        elif self.key is None:
            self.key = node
            if not isinstance(node, Scalar):
                report.wrong(node, "a key must be plain text")
        else:
            key, self.key = self.key, None
            if isinstance(key, Scalar):
                self._enter(key, node, report)

    def _enter(self, key: Scalar, node: Node, report: Report) -> None:
        if key.text in self.entries:
            first = self.entries[key.text][0]
            report.wrong(key, f"key '{key.text}' is given twice", hint=f"it is already given in line {first.line}")
        else:
            self.entries[key.text] = (key, node)

    def close(self) -> Node:
        if self.is_table:
            return Table(tuple(self.entries.values()), self.line, self.column)
        return Listing(tuple(self.items), self.line, self.column)


def _compose(text: str, report: Report) -> Node | None:
    import yaml

    root = _Open(is_table=False, line=1, column=1)
    try:
        _build(yaml.parse(text, Loader=yaml.CSafeLoader), root, report)
    except yaml.MarkedYAMLError as error:
        _note_syntax(error, report)
        report.raise_if_any()
    except InvalidSource:
        raise
    except Exception as error:  # a file that the library trips over must not keep others from being read
        report.add(1, 1, f"not YAML: {error}")
        report.raise_if_any()
    if not root.items:
        return None
    node = root.items[0]
    return None if isinstance(node, Scalar) and node.plain and not node.text else node


def _build(events: Iterator["yaml.Event"], root: _Open, report: Report) -> None:
    """Stack the events of the first document into `root`."""
    from yaml import events as kinds

    stack = [root]
    for event in events:
        match event:
            case kinds.ScalarEvent():
                stack[-1].take(_marked(event, report, _scalar(event)), report)
            case kinds.MappingStartEvent() | kinds.SequenceStartEvent():
                line, column = _at(event.start_mark)
                _marked(event, report, BROKEN)
                stack.append(_Open(isinstance(event, kinds.MappingStartEvent), line, column))
                if len(stack) > MAX_DEPTH:
                    report.add(line, column, f"nested more than {MAX_DEPTH} levels deep")
                    report.raise_if_any()
            case kinds.MappingEndEvent() | kinds.SequenceEndEvent():
                closed = stack.pop().close()
                stack[-1].take(closed, report)
            case kinds.AliasEvent():
                stack[-1].take(_marked(event, report, BROKEN), report)
            case kinds.DocumentStartEvent() if root.items:
                report.add(*_at(event.start_mark), "a second document starts here", hint="one document per file")
                return


def _at(mark: "yaml.Mark | yaml._yaml.Mark | None") -> tuple[int, int]:
    """A mark's line and column, counted from 1 as editors do."""
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _scalar(event: "yaml.ScalarEvent") -> Scalar:
    return Scalar(event.value, event.style in ("", None), *_at(event.start_mark))


def _marked(event: "yaml.NodeEvent", report: Report, node: Node) -> Node:
    """`node`, or Broken where it carries what we do not take: an alias, an anchor, a tag."""
    from yaml.events import AliasEvent

    line, column = _at(event.start_mark)
    if isinstance(event, AliasEvent):
        hint = "write the value out; text that starts with * needs quotes"
        report.add(line, column, f"aliases (*{event.anchor}) are not supported", hint=hint)
    elif event.anchor is not None:
        report.add(line, column, f"anchors (&{event.anchor}) are not supported", hint="write the value out")
    elif getattr(event, "tag", None) is not None:
        report.add(line, column, "tags (!...) are not supported", hint="text that starts with ! needs quotes")
    else:
        return node
    return BROKEN


def _note_syntax(error: "yaml.MarkedYAMLError", report: Report) -> None:
    line, column = _at(error.problem_mark or error.context_mark)
    what = (error.problem or "not YAML").strip()
    context = f" {error.context}" if error.context else ""
    hint = next((hint for part, hint in SYNTAX_HINTS if part in what), "")
    if error.context_mark and hint.endswith("never closed"):
        line, column = _at(error.context_mark)
    lines = LINE_END.split(report.text)
    if line > len(lines) or (line == len(lines) and column > len(lines[-1]) + 1):
        line, column = len(lines), len(lines[-1]) + 1
    report.add(line, column, f"YAML: {what}{context}", hint=hint)
