"""The page's files: all that are there are served, and none puts in as markup what comes from the cell."""

import re

import pytest

from agent.ui.server import FILES, PAGE

MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\(|new Function"
)
IMPORT = re.compile(r'from "\./([a-z]+\.js)"')


def test_all_files_are_served_and_none_that_is_not_there() -> None:
    assert {each.name for each in PAGE.iterdir()} == set(FILES)


def test_every_module_that_is_imported_is_there() -> None:
    imported = {name for each in PAGE.glob("*.js") for name in IMPORT.findall(each.read_text())}
    assert imported <= set(FILES)
    assert {each.name for each in PAGE.glob("*.js")} == imported | {"main.js"}


@pytest.mark.parametrize("name", [each for each in FILES if each.endswith(".js")])
def test_no_script_makes_markup_of_text(name: str) -> None:
    assert MARKUP.search((PAGE / name).read_text()) is None


def test_nothing_is_fetched_from_elsewhere() -> None:
    text = "".join((PAGE / each).read_text() for each in FILES if each != "icon.svg")
    text = text.replace("http://www.w3.org/2000/svg", "")  # a name, not a place
    assert re.findall(r"https?://|//[a-z0-9-]+\.[a-z]", text) == []


def test_a_script_is_small() -> None:
    assert {each.name: lines for each in PAGE.iterdir() if (lines := len(each.read_text().splitlines())) > 260} == {}
