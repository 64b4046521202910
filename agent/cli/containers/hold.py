"""`hold`: a namespace on the overlay without a process, for engines that can join one and for what has no plugin."""

import shlex

import click

from agent.cli.containers import held_namespaces
from agent.cli.containers.attach_options import AttachOptions, attach_request, named_options
from agent.cli.containers.key_owner_option import key_owner_field, key_owner_option
from agent.cli.containers.podman_options import place_options, podman_option
from agent.cli.output import json_option, print_json
from agent.client.location import Location, need_root
from agent.model.key_owner import KeyOwner


@click.command()
@named_options
@key_owner_option
@podman_option
@json_option
@click.pass_obj
def hold(location: Location, options: AttachOptions, key_owner: KeyOwner | None, as_podman: bool, as_json: bool) -> None:
    """Make a network namespace NAME on the overlay and keep it, whatever is in it, until 'cellnet release NAME'.

    Its address, files and names are there before the container is: a container engine or a unit joins it by its path.
    """
    need_root("cellnet hold")
    assert options.name is not None
    path = held_namespaces.path_of(location, options.name)
    held_namespaces.make(path)
    try:
        body = {**options.body(), **key_owner_field(key_owner), "netns": str(path)}
        made = attach_request(location.client(), options.name, body).fields
    except BaseException:
        held_namespaces.give_up(path)
        raise
    words = shlex.join([f"--network=ns:{path}", *place_options(made)])
    if as_json:
        print_json({**made.fields, "netns": str(path)})
    elif as_podman:
        click.echo(words)
    else:
        click.echo(f"{made.text('name')} has {made.text('address')}, in {path}")
        click.echo(f"  podman run {words} IMAGE")
        click.echo(f"  NetworkNamespacePath={path}, EnvironmentFile={made.text('environment_file')} in a unit of systemd")
