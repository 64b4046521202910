"""The options of `podman run` that put a container where cellnet has prepared its place."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import click

from agent.client.answer import Fields

Command = TypeVar("Command", bound=Callable[..., object])


def podman_option(command: Command) -> Command:
    """Adds `--podman`."""
    text = "Print the options of 'podman run' alone, for $(…) in a shell."
    return click.option("--podman", "as_podman", is_flag=True, help=text)(command)


def place_options(made: Fields) -> Iterator[str]:
    """Its environment, its certificates at the paths that the environment has, and the resolver."""
    environment = made.mapping("environment")
    folders = {str(Path(environment["CF_INSTANCE_CERT"]).parent), environment["CF_SYSTEM_CERT_PATH"]}
    yield f"--env-file={made.text('environment_file')}"
    yield from (f"--volume={folder}:{folder}:ro" for folder in sorted(folders))
    yield from _resolver_options(made.at("dns"))


def _resolver_options(dns: Fields) -> Iterator[str]:
    """For podman: it adds the host's own name servers to those of a network, which knows no options at all."""
    yield from (f"--dns={each}" for each in dns.texts("nameservers"))
    yield from (f"--dns-search={each}" for each in dns.texts("search"))
    yield from (f"--dns-option={each}" for each in dns.texts("options"))
