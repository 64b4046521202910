"""`reserve`, `release`, `reservations`: what a container will be, for engines that tell cellnet its name and nothing else."""

import shlex

import click

from agent.cli.completion import reserved_names
from agent.cli.containers import held_namespaces
from agent.cli.containers.attach_options import AttachOptions, named_options
from agent.cli.containers.key_owner_option import key_owner_field, key_owner_option
from agent.cli.containers.podman_options import place_options, podman_option
from agent.cli.errors import print_warnings
from agent.cli.output import joined, json_option, print_json, table
from agent.client.answer import Fields
from agent.client.connection import attachment_address, quoted
from agent.client.location import Location, need_root
from agent.model.key_owner import KeyOwner

HEADS = ("NAME", "APP", "INSTANCE", "ADDRESS", "PORTS", "ROUTES")


@click.command()
@named_options
@key_owner_option
@podman_option
@json_option
@click.pass_obj
def reserve(location: Location, options: AttachOptions, key_owner: KeyOwner | None, as_podman: bool, as_json: bool) -> None:
    """Say what the container NAME will be, before its engine starts it, and keep its place: address, number and environment.

    It holds for every container of that name on the network cellnet until 'cellnet release NAME', over restarts and reboots.
    """
    assert options.name is not None
    body = {**options.body(), **key_owner_field(key_owner)}
    made = location.client().put(f"/v1/reservations/{quoted(options.name)}", body)
    print_warnings(made.texts("warnings"))
    name = made.text("name")
    words = shlex.join([f"--name={name}", "--network=cellnet", *place_options(made)])
    if as_json:
        print_json(made)
    elif as_podman:
        click.echo(words)
    else:
        click.echo(f"{name} is reserved for {made.text('app')}, with {made.text('address')}\n  podman run {words} IMAGE")
        click.echo(f"  its environment: {made.text('environment_file')}")


@click.command()
@json_option
@click.pass_obj
def reservations(location: Location, as_json: bool) -> None:
    """List what is reserved on this cell for containers to come."""
    found = location.client().get("/v1/reservations")
    if as_json:
        print_json(found)
    else:
        click.echo(table(HEADS, [_row(each) for each in found.each()]))


@click.command()
@click.argument("name", shell_complete=reserved_names)
@json_option
@click.pass_obj
def release(location: Location, name: str, as_json: bool) -> None:
    """End what 'cellnet reserve' or 'cellnet hold' has begun. What is not there is no error.

    A container that runs by a reservation keeps what it has; a namespace that was held goes, with the network of what is in it.
    """
    need_root("cellnet release")
    client, held = location.client(), held_namespaces.path_of(location, name)
    was_reserved = client.delete(f"/v1/reservations/{quoted(name)}").flag("released")
    was_held = held_namespaces.is_held(held)
    if was_held:
        client.delete(attachment_address(name))
        held_namespaces.give_up(held)
    if as_json:
        print_json({"released": was_reserved or was_held})
    elif not (was_reserved or was_held):
        click.echo(f"there was no '{name}'")


def _row(each: Fields) -> tuple[str, ...]:
    names = tuple(map(each.text, ("name", "app", "instance", "address")))
    return (*names, joined(each.texts("ports")), joined(each.texts("routes")))
