"""A configuration as text again: each key as it could be written in agent.yaml, and the keys in which two of them differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import Enum
from functools import cache
from pathlib import Path

from agent.config.config import Config
from agent.config.etcd import Etcd, EtcdEndpoint
from agent.config.name_templates import NameTemplate
from agent.config.settings import fields_of, read_override
from agent.config.source import Scalar
from agent.config.values import Key, Kind, kind
from dataplane.dns.command import Upstream
from dataplane.state import HostService

UPSTREAMS = "dns.upstreams"
NEEDS_QUOTES = frozenset(":{}[],&*!|>'\"%@`#")
UNITS = (("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1)))


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key, dotted, with both of its values as text; `live`: a reload takes it, else the agent has to be started again."""

    key: str
    before: str
    after: str
    live: bool


def all_values(config: Config) -> dict[str, str]:
    """Every key, dotted, with its value."""
    return {name: in_yaml(value, key) for name, key, value in _values(config, Config)}


def changes(running: Config, wanted: Config) -> tuple[KeyChange, ...]:
    """What is otherwise in `wanted`."""
    before, after = all_values(running), all_values(wanted)
    return tuple(
        KeyChange(each, before[each], after[each], is_live(each, before, after))
        for each in before
        if before[each] != after[each]
    )


NEED_EMPTY = frozenset({"overlay.network", "overlay.cell_prefix", "store"})
"""Keys that decide which addresses containers have: an agent that has some does not start with another value."""


def is_live(key: str, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether a reload takes a key, from one set of all values to the other."""
    if key == UPSTREAMS:  # else dnsmasq has them on its command line, or there is no hop
        return all(each["egress.default"] == "deny" and each[UPSTREAMS] != "none" for each in (before, after))
    return key in live_keys()


@cache
def live_keys() -> frozenset[str]:
    """Those that a reload takes."""
    return frozenset(_live(Config))


def _live(section: type, *, prefix: str = "") -> Iterator[str]:
    for each in fields_of(section):
        if each.section is not None:
            yield from _live(each.section, prefix=f"{prefix}{each.name}.")
        elif each.key is not None and each.key.live:
            yield prefix + each.name


def with_live(running: Config, wanted: Config) -> Config:
    """What runs after a reload: of `wanted` what can be taken, all else as it is."""
    made = running
    for each in changes(running, wanted):
        if each.live:
            section, _, name = each.key.rpartition(".")
            source = getattr(wanted, section) if section else wanted
            value = getattr(source, name)
            if section:
                name, value = section, replace(getattr(made, section), **{name: value})
            made = replace(made, **{name: value})
    taken = {each.key for each in changes(running, made)}
    origins = {name: each for name, each in running.origins.items() if name not in taken}
    return replace(made, origins=origins | {name: each for name, each in wanted.origins.items() if name in taken})


def _values(section: object, kind_of: type, *, prefix: str = "") -> Iterator[tuple[str, Key, object]]:
    for each in fields_of(kind_of):
        value = getattr(section, each.name)
        if each.section is not None:
            yield from _values(value, each.section, prefix=f"{prefix}{each.name}.")
        elif each.key is not None:
            yield prefix + each.name, each.key, value


def in_yaml(value: object, key: Key) -> str:
    """One value, on one line; None is the word that stands for it."""
    if value is None:
        return key.shown or "auto"
    if key.shown == "auto" and value == ():
        return "none"
    return _flow(value)


def _flow(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case timedelta():
            return next(f"{value // unit}{letter}" for letter, unit in UNITS if not value % unit)
        case HostService():
            return f"{{protocol: {value.protocol}, port: {value.port}}}"
        case Upstream():
            return _quoted(str(value.address) if value.port == 53 else str(value))
        case NameTemplate():
            return _quoted(value.text)
        case Etcd():
            return f"{{etcd: {{{', '.join(_etcd(value))}}}}}"
        case tuple():
            return f"[{', '.join(map(_flow, value))}]"
        case str() | Path() | EtcdEndpoint():
            return _quoted(str(value))
        case _:
            return str(value)


def _etcd(store: Etcd) -> Iterator[str]:
    for each in fields(store):
        value = getattr(store, each.name)
        if value is not None:
            yield f"{each.name}: {_flow(value)}"


def _quoted(text: str) -> str:
    is_plain = kind(Scalar(text, plain=True, line=0, column=0)) is Kind.TEXT and text == text.strip()
    if is_plain and text and not NEEDS_QUOTES & set(text) and text.isprintable() and not text.startswith(("-", "?")):
        return text
    return "'" + text.replace("'", "''") + "'"


def document(values: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """An agent.yaml that says all of it; `notes` stand behind the values."""
    lines, section = list[str](), ""
    for name, value in values.items():
        head, _, key = name.rpartition(".")
        if head != section:
            lines += [f"{head}:"] * bool(head)
            section = head
        note = notes.get(name, "")
        _, report = read_override(f"{name}={value}")
        mark = "# " if report.problems else ""  # `none` is what stands for it, and is no value
        lines.append(f"{'  ' * bool(head)}{mark}{key}: {value}" + (f"  # {note}" if note else ""))
    return "\n".join(lines) + "\n"
