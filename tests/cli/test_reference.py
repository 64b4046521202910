"""docs/cli.md is what the commands say of themselves."""

from pathlib import Path

from docs.pages.cli import text

PAGE = Path(__file__).parents[2] / "docs/cli.md"


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == text(), "run: .venv/bin/python -m docs.pages"
