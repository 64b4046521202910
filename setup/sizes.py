"""Small on purpose: no Python file above 400 lines, no function above 50. Prints what is too large; exit 1 if anything is.

A size is what a reader meets: all lines of a file; a function from its `def` to its last line, docstring included,
decorators not. Generated code has no exception, and needs none.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 50
FOLDERS = ("agent", "bench", "ca", "dataplane", "docs", "host", "lab", "setup", "systemd", "tests", "vagrant")


def too_large(text: str, name: str) -> Iterator[str]:
    """What in one file is above the limits, as `file:line: what`."""
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"{name}:1: {lines} lines, {FILE_LINES} at most"
    for node in ast.walk(ast.parse(text, name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {size} lines, {FUNCTION_LINES} at most"


def main(root: Path) -> int:
    """0 if every file of the repository at `root` is within the limits, else 1."""
    found = [
        problem
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
        for problem in too_large(path.read_text(encoding="utf-8"), str(path.relative_to(root)))
    ]
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
