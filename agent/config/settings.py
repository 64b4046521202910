"""What one text sets: dotted keys with their values and places, read by the annotations of Config."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import get_type_hints

from agent.config.config import Config
from agent.config.problems import Report
from agent.config.source import Node, Scalar, Table, compose
from agent.config.values import Key, table


@dataclass(frozen=True, slots=True)
class ConfiguredValue:
    """One value of its key's own type, and where it was written."""

    value: object
    node: Node
    report: Report

    @property
    def origin(self) -> str:
        """The text, and the line in it."""
        return f"{self.report.file}:{self.node.line}"


Settings = Mapping[str, ConfiguredValue]


@dataclass(frozen=True, slots=True)
class Field:
    """A key, or a section of them: exactly one of `key` and `section` is there."""

    name: str
    key: Key | None
    section: type | None


@cache
def fields_of(section: type) -> tuple[Field, ...]:
    """The keys and sections of Config or of one of its sections, in order."""
    found = (_field(name, hint) for name, hint in get_type_hints(section, include_extras=True).items())
    return tuple(each for each in found if each.key is not None or each.section is not None)


def _field(name: str, hint: object) -> Field:
    key = next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Key)), None)
    return Field(name, key, hint if key is None and isinstance(hint, type) else None)


def read_file(content: bytes, *, file: str) -> tuple[Settings, Report]:
    """What the content of agent.yaml sets. Mistakes are in the report."""
    node, report = compose(content, file=file)
    return ({} if node is None else dict(_section(Config, node, report))), report


def read_override(override: str) -> tuple[Settings, Report]:
    """What `KEY=VALUE` sets, KEY dotted, VALUE YAML, e.g. `tls.port=8443`."""
    key, equals, value = override.partition("=")
    node, report = compose(value.encode(errors="surrogateescape"), file=f"--config {key}")
    if not key or not equals:
        report.add(0, 0, "expected KEY=VALUE", hint="e.g. tls.port=8443")
        return {}, report
    inner: Node = node or Scalar("", plain=True, line=1, column=1)
    for part in reversed(key.split(".")):
        inner = Table(((Scalar(part, plain=True, line=1, column=1), inner),), line=1, column=1)
    return dict(_section(Config, inner, report)), report


def _section(section: type, node: Node, report: Report, *, prefix: str = "") -> Iterator[tuple[str, ConfiguredValue]]:
    known = {each.name: each for each in fields_of(section)}
    what = f"a mapping with some of {', '.join(known)}" if prefix else "keys with values, such as `store: sqlite`"
    for name, (_, value) in (table(node, report, keys=known, what=what) or {}).items():
        field = known[name]
        if field.section is not None:
            yield from _section(field.section, value, report, prefix=f"{prefix}{name}.")
        elif field.key is not None:
            yield prefix + name, ConfiguredValue(field.key.read(value, report), value, report)
