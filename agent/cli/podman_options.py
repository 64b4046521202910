"""The options of `podman run` that put a container where cellnet has prepared its place."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import click

from agent.client.answer import Fields

Command = TypeVar("Command", bound=Callable[..., object])


def podman_option(command: Command) -> Command:
    """Adds `--podman`."""
    text = "Print the options of 'podman run' alone, for $(…) in a shell."
    return click.option("--podman", "as_podman", is_flag=True, help=text)(command)


def resolver_options(dns: Fields) -> Iterator[str]:
    """For podman: it adds the host's own name servers to those of a network, which knows no options at all."""
    yield from (f"--dns={each}" for each in dns.texts("nameservers"))
    yield from (f"--dns-search={each}" for each in dns.texts("search"))
    yield from (f"--dns-option={each}" for each in dns.texts("options"))
