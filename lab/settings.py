"""`KEY=VALUE` from the command line as the text of agent.yaml: KEY is dotted, VALUE is YAML and stays as it was typed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from agent.config.load import load
from agent.errors import InvalidInput

Tree: TypeAlias = "dict[str, str | Tree]"


def written(overrides: Sequence[str], *, root: Path) -> str:
    """The text of agent.yaml for an agent below `root`; the later of two overrides of one key wins.

    Raises InvalidInput that shows every mistake: in the overrides one by one, then in what they are together.
    """
    load(root / "agent.yaml", root=root, hostname="cell", overrides=overrides)
    tree: Tree = {}
    for override in overrides:
        key, _, value = override.partition("=")
        _put(tree, key.split("."), value)
    return "".join(f"{line}\n" for line in _lines(tree))


def _put(tree: Tree, path: Sequence[str], value: str) -> None:
    for part in path[:-1]:
        inner = tree.get(part)
        if isinstance(inner, str):
            raise InvalidInput(f"'{part}' is set as a whole and in parts", hint=f"write only {part}.KEY=VALUE")
        tree = tree.setdefault(part, {})  # type: ignore[assignment]  # not a string, as was just seen
    if path[-1] in tree and not isinstance(tree[path[-1]], str):
        raise InvalidInput(f"'{path[-1]}' is set as a whole and in parts", hint=f"write only {path[-1]}.KEY=VALUE")
    if "\n" in value.strip():
        raise InvalidInput(f"the value of {'.'.join(path)} spans lines", hint="write it as {a: 1, b: 2} or [1, 2]")
    tree[path[-1]] = value.strip()


def _lines(tree: Mapping[str, "str | Tree"], *, indent: str = "") -> Sequence[str]:
    found: list[str] = []
    for key, value in tree.items():
        if isinstance(value, str):
            found.append(f"{indent}{key}: {value}")
        else:
            found += [f"{indent}{key}:", *_lines(value, indent=f"{indent}  ")]
    return found
