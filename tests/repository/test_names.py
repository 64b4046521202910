"""Names: one thing has one name, and folder plus file name says what is inside.

A file that repeats its folder's name is listed. An entry that is mended must leave its list, so that it only shrinks.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("agent", "ca", "dataplane", "host")
FOLDERS = (*PRODUCT, "bench", "lab", "setup", "tests")
SAY_NOTHING = {"base", "common", "data", "handler", "handlers", "helper", "helpers", "info", "manager", "misc", "util", "utils"}
NOUNS = {"issuing", "keyring", "listening", "pacing", "reading", "spoofing", "wording"}  # of the field, though they end in -ing


def files(*folders: str) -> Iterator[Path]:
    """All Python files but those that protoc writes."""
    for folder in folders:
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if not path.stem.endswith("_pb2"))


def definitions(path: Path) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Classes, functions and methods of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_class_name_stands_twice() -> None:
    found = Counter(each.name for path in files(*PRODUCT) for each in definitions(path) if isinstance(each, ast.ClassDef))
    assert [name for name, count in found.items() if count > 1] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_named_for_what_any_file_could_hold(folder: str) -> None:
    assert [place(path) for path in files(folder) if path.stem.removeprefix("test_") in SAY_NOTHING] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_repeats_the_name_of_its_folder(folder: str) -> None:
    named = {path: path.stem.removeprefix("test_").removeprefix("bench_").split("_") for path in files(folder)}
    assert [place(path) for path, words in named.items() if path.parent.name in words and len(words) > 1] == []


def test_files_that_code_names_exist() -> None:
    """Their whole paths, in what is said of the code."""
    path = re.compile(rf"(?<![\w/])(?:{'|'.join((*PRODUCT, 'bench', 'lab'))})/[\w/]+\.(?:py|sh|c)\b")
    named = {(place(each), name) for each in files(*PRODUCT, "bench", "lab") for name in path.findall(each.read_text())}
    assert {(where, name) for where, name in named if not (ROOT / name).exists()} == set()


def test_files_are_named_by_nouns() -> None:
    named = {path for path in files(*FOLDERS) if path.stem.split("_")[-1].endswith("ing")}
    assert {place(path) for path in named if path.stem.removeprefix("test_") not in NOUNS} == set()


def test_a_task_that_runs_for_ever_is_called_run() -> None:
    assert [place(path) for path in files(*PRODUCT) for each in definitions(path) if each.name.endswith("for_ever")] == []
