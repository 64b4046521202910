"""The man pages say what `--help` says, in roff without a mistake; the packaged agent.yaml is the defaults but for one."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import click
import pytest

from agent.cli.main import cli
from agent.config.config import Config, Mtls
from agent.config.load import load
from docs.pages import agent_yaml, package
from docs.pages.cli import command_contexts
from docs.pages.config import key_rows
from docs.pages.man import pages

PAGES = dict(pages())
COMMANDS = cli.list_commands(click.Context(cli))


def shown(page: str) -> str:
    """What a reader of a page sees, in lines of any length; fails if there is a mistake in its roff."""
    command = ["groff", "-man", "-Kutf8", "-Tutf8", "-ww", "-rLL=2000n", "-P-cbou"]
    done = subprocess.run(command, input=PAGES[page], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.replace("‐", "-").replace("−", "-").replace("’", "'").replace("‘", "`")


def test_every_command_has_a_page_and_no_other_page_is_there() -> None:
    assert set(PAGES) == {"cellnet.1", "agent.yaml.5", *(f"cellnet-{name}.1" for name in COMMANDS)}


@pytest.mark.parametrize("word", COMMANDS)
def test_the_page_of_a_command_has_what_its_help_and_those_below_it_have(word: str) -> None:
    text = " ".join(shown(f"cellnet-{word}.1").split())
    for context in command_contexts(width=80):
        if context.command_path.split()[1:2] != [word]:
            continue
        assert " ".join((context.command.help or "").replace("\b", "").split()) in text
        for record in (each.get_help_record(context) for each in context.command.get_params(context)):
            assert record is None or all(" ".join(part.split()) in text for part in record)


def test_the_first_page_lists_all_commands() -> None:
    text = shown("cellnet.1")
    assert [name for name in COMMANDS if f"cellnet-{name}(1)" not in text] == []


def test_the_page_of_the_configuration_has_every_key_with_its_default() -> None:
    text = shown("agent.yaml.5")
    for name, default, meaning in key_rows(Config):
        assert re.search(rf"^ +{re.escape(name)}$|^ +{re.escape(name)} ", text, re.MULTILINE)
        assert f"{meaning} (default: {default})" in text


def test_the_packaged_configuration_is_the_defaults_but_for_mutual_tls(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(agent_yaml.text())
    ours, defaults = (load(tmp_path / name, root=None, hostname="host") for name in ("agent.yaml", "missing.yaml"))
    assert ours == replace(defaults, tls=replace(defaults.tls, mtls=Mtls.STRICT), file=ours.file)


def test_the_packaged_configuration_has_every_key_with_its_meaning() -> None:
    text = " ".join(agent_yaml.text().replace("#", " ").split())
    assert [name for name, _, meaning in key_rows(Config) if " ".join(meaning.replace("#", " ").split()) not in text] == []
    assert [name for name, _, _ in key_rows(Config) if f" {name.rpartition('.')[2]}: " not in text] == []


def test_completion_goes_where_each_shell_looks_for_it(tmp_path: Path) -> None:
    package.write(tmp_path)
    assert {path.name for path in (tmp_path / "completion").iterdir()} == {"cellnet", "_cellnet", "cellnet.fish"}
    subprocess.run(["bash", "-n", tmp_path / "completion/cellnet"], check=True)
