"""What the package has of pages: `python -m docs.pages.package FOLDER` writes man pages, completion and agent.yaml there."""

import sys
from pathlib import Path

from click.shell_completion import get_completion_class

from agent.cli.completion import SHELLS
from agent.cli.main import cli
from docs.pages import agent_yaml, man

COMPLETION_FILES = {"bash": "cellnet", "zsh": "_cellnet", "fish": "cellnet.fish"}
"""As each shell looks for the completion of `cellnet`."""


def completion_script(shell: str) -> str:
    """What `cellnet completion SHELL` prints."""
    found = get_completion_class(shell)
    assert found is not None
    return found(cli, {}, "cellnet", "_CELLNET_COMPLETE").source()


def write(folder: Path) -> None:
    """Write all of them below the folder, which is made."""
    texts = {f"man/{name}": text for name, text in man.pages()}
    texts |= {f"completion/{COMPLETION_FILES[shell]}": completion_script(shell) for shell in SHELLS}
    texts["agent.yaml"] = agent_yaml.text()
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
