"""The man pages: cellnet(1), one for each of its commands with those below it, and agent.yaml(5), from the same help."""

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from textwrap import dedent

import click

from agent.config.config import Config
from docs.pages.cli import command_contexts
from docs.pages.config import key_rows

WIDTH = 80
FILES = {
    "/etc/cellnet/agent.yaml": "the configuration, agent.yaml(5)",
    "/etc/cellnet/policies.d/*.yaml": "policies; one is in force when it is renamed into place",
    "/var/lib/cellnet": "what survives a reboot: database, certificates of the cell, last good policies",
    "/run/cellnet": "what does not: sockets, pinned namespaces, keys of instances",
}
CONFIGURATION = """\
/etc/cellnet/agent.yaml says what the agent of this host goes by. Every key is optional, and a missing file means the defaults.
A dot in a name below stands for a section: tls.mtls is the key mtls below tls. A duration is a number and s, m, h or d.
The file must be root's, and writable by root alone."""


def pages() -> Iterator[tuple[str, str]]:
    """Each page's file name and its text in roff."""
    contexts = tuple(command_contexts(width=WIDTH))
    root, below = contexts[0], contexts[1:]
    first_words = sorted({each.command_path.split()[1] for each in below})
    yield "cellnet.1", _first_page(root, [each for each in below if len(each.command_path.split()) == 2])
    for word in first_words:
        own = [each for each in below if each.command_path.split()[1] == word]
        yield f"cellnet-{word}.1", _command_page(own)
    yield "agent.yaml.5", _configuration()


def _first_page(root: click.Context, commands: Sequence[click.Context]) -> str:
    listed = [(f"cellnet-{each.info_name}(1)", each.command.get_short_help_str(limit=WIDTH)) for each in commands]
    parts = [*_synopsis([root]), *_description(root), *_options(root), ".SH COMMANDS", *_definitions(listed)]
    parts += [".SH FILES", *_definitions(list(FILES.items()))]
    return _page("cellnet", "1", _summary(root), parts + [*_exit_codes(), *_see_also("agent.yaml(5)")])


def _command_page(contexts: Sequence[click.Context]) -> str:
    first, below = contexts[0], contexts[1:]
    parts = [*_synopsis(below or [first]), *_description(first), *_options(first)]
    for each in below:
        title = _text(each.command_path.removeprefix("cellnet ")).upper()
        parts += [f".SH {title}", *_paragraphs(_help(each)), *_option_list(each)]
    return _page(first.command_path.replace(" ", "-"), "1", _summary(first), parts + [*_exit_codes(), *_see_also("cellnet(1)")])


def _configuration() -> str:
    rows = [(name, f"{meaning} (default: {default})") for name, default, meaning in key_rows(Config)]
    parts = [".SH DESCRIPTION", *_paragraphs(CONFIGURATION), ".SH KEYS", *_definitions(rows)]
    return _page("agent.yaml", "5", "configuration of cellnet", parts + [*_see_also("cellnet(1), cellnet-agent(1)")])


def _page(name: str, section: str, summary: str, parts: Sequence[str]) -> str:
    head = [f'.TH "{_text(name).upper()}" "{section}" "" "cellnet {version("cellnet")}" "cellnet"', ".SH NAME"]
    return "\n".join([*head, f"{_text(name)} \\- {_text(summary)}", *parts, ""])


def _summary(context: click.Context) -> str:
    return _help(context).partition("\n\n")[0].replace("\n", " ").rstrip(".")


def _help(context: click.Context) -> str:
    return dedent(context.command.help or "").strip()


def _synopsis(contexts: Sequence[click.Context]) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    for number, each in enumerate(contexts):
        if number:
            yield ".br"
        yield f"\\fB{_text(each.command_path)}\\fR {_text(' '.join(each.command.collect_usage_pieces(each)))}"


def _description(context: click.Context) -> Iterator[str]:
    yield ".SH DESCRIPTION"
    yield from _paragraphs(_help(context))


def _paragraphs(text: str) -> Iterator[str]:
    """As click reads help: an empty line parts paragraphs, and \\b on a line of its own keeps the lines of one."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text)):
        as_it_is = paragraph.startswith("\b\n")
        yield ".PP" if number else "."
        yield from (".nf",) if as_it_is else ()
        yield from (_line(line) for line in paragraph.removeprefix("\b\n").splitlines())
        yield from (".fi",) if as_it_is else ()


def _options(context: click.Context) -> Iterator[str]:
    found = list(_option_list(context))
    if found:
        yield from (".SH OPTIONS", *found)


def _option_list(context: click.Context) -> Iterator[str]:
    records = (each.get_help_record(context) for each in context.command.get_params(context))
    yield from _definitions([each for each in records if each is not None])


def _definitions(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    for name, meaning in pairs:
        yield from (".TP", f"\\fB{_text(name)}\\fR", _line(" ".join(meaning.split())))


def _exit_codes() -> Sequence[str]:
    return (".SH EXIT STATUS", "0 done or yes, 1 failed or no, 2 wrong usage.")


def _see_also(names: str) -> Sequence[str]:
    return (".SH SEE ALSO", names)


def _text(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


def _line(text: str) -> str:
    """A line of its own: one that begins with a dot or a quote would be a request."""
    written = _text(text)
    return f"\\&{written}" if written.startswith((".", "'")) else written
