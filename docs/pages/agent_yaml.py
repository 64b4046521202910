"""agent.yaml as the package brings it: every key with its meaning and its default, written from the annotations of Config."""

from collections.abc import Iterator
from dataclasses import fields
from textwrap import wrap

from agent.config.config import Config
from agent.config.settings import Field, fields_of
from docs.pages.config import shown_default

HEAD = """\
# What cellnet goes by on this cell; agent.yaml(5) has the same keys. Every key is optional: what is commented out shows its
# default. To set a key of a section, take the # away from the section's name as well. `cellnet config check` has the
# mistakes of a change, `cellnet config reload` takes up what needs no restart, and names what does (of cellnet-agent).
"""
OTHER_THAN_DEFAULT = {"tls.mtls": "strict"}
"""What a new installation has and a missing file has not."""
WIDTH = 120


def text() -> str:
    """The whole file."""
    return HEAD + "".join(f"{line}\n" for field in fields_of(Config) for line in ("", *_entry(field, Config)))


def _entry(field: Field, section: type, *, prefix: str = "") -> Iterator[str]:
    indent = "  " * prefix.count(".")
    name = prefix + field.name
    if field.section is not None:
        is_set = any(key.startswith(f"{name}.") for key in OTHER_THAN_DEFAULT)
        yield f"{indent}{field.name}:" if is_set else f"{indent}#{field.name}:"
        for inner in fields_of(field.section):
            yield from _entry(inner, field.section, prefix=f"{name}.")
    elif field.key is not None:
        default = shown_default(field.key, {each.name: each.default for each in fields(section)}[field.name])
        ours = OTHER_THAN_DEFAULT.get(name)
        meaning = field.key.meaning if ours is None else f"{field.key.meaning}; default: {default}"
        yield from (f"{indent}# {line}" for line in wrap(meaning, WIDTH - len(indent) - 2, break_on_hyphens=False))
        yield f"{indent}#{field.name}: {default}" if ours is None else f"{indent}{field.name}: {ours}"
