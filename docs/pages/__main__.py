"""Writes the pages."""

from pathlib import Path

from docs.pages import cli, config

for page in (cli, config):
    Path(f"docs/{page.__name__.rpartition('.')[2]}.md").write_text(page.text())
