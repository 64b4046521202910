"""The commands that documents show. Each block of them is run by the test that the comment before it names."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^<!-- (?P<test>\S+) runs this block -->\n```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
STUBS = {  # as if the other host were this one
    "ssh": '#!/bin/sh\nshift\nexec sh -c "$*"\n',
    "scp": '#!/bin/sh\nfor word; do set -- "$@" "${word#root@*:}"; shift; done\nexec cp "$@"\n',
}


def blocks(document: str, *, test: str) -> tuple[str, ...]:
    """The blocks of a document (a path from the repository's root) that a test (the same) runs."""
    found = BLOCK.finditer((ROOT / document).read_text())
    return tuple(each["text"] for each in found if each["test"] == test)


def steps(block: str) -> list[tuple[str, str]]:
    """Each command, with the output that is shown for it."""
    parts = [each.partition("\n") for each in block.removeprefix("$ ").split("\n$ ")]
    return [(command.rstrip(), output and f"{output.rstrip()}\n") for command, _, output in parts]


def commands(block: str) -> list[str]:
    """The commands alone."""
    return [command for command, _ in steps(block)]


def run_in_shell(*texts: str, folder: Path, instead: Mapping[str, str], env: Mapping[str, str]) -> str:
    """Run the commands of blocks, and lines of a test's own, in one shell that ends at the first failure; what it prints.

    `instead`: what stands in the document -> what is there in the test.
    """
    script = "\n".join(command for text in texts for command in commands(text))
    for shown, there in instead.items():
        script = script.replace(shown, there)
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    for name, content in STUBS.items():
        (stubs / name).write_text(content)
        (stubs / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-e", "-u"], input=script, cwd=folder, capture_output=True, text=True,
        env={**env, "PATH": f"{stubs}:{env['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout
