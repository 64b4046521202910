"""`attach`, `detach`, `ps`: attachments whose namespaces are there already."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from agent.cli.apps.apps import served
from agent.cli.completion import attachment_names
from agent.cli.containers.attach_options import AttachOptions, attach_options, attach_request
from agent.cli.containers.key_owner_option import key_owner_field, key_owner_option
from agent.cli.containers.named import name_of
from agent.cli.output import joined, json_option, print_json, table
from agent.client.answer import Fields
from agent.client.connection import attachment_address
from agent.client.location import Location
from agent.model.key_owner import KeyOwner
from agent.model.publication import Publication, published_address
from agent.wording import natural


@click.command()
@attach_options
@click.option("--netns", required=True, metavar="PATH", help="The network namespace, e.g. /run/netns/web or /proc/PID/ns/net.")
@click.option("--interface", default="eth0", show_default=True, metavar="NAME", help="Name of the interface inside.")
@key_owner_option
@click.option(
    "--netns-resolv-conf",
    is_flag=True,
    help="Give 'ip netns exec' its resolv.conf: /etc/netns/NAME/resolv.conf, until it is detached.",
)
@click.option("--env", "as_env", is_flag=True, help="Print the environment alone, as KEY=VALUE lines.")
@json_option
@click.pass_obj
def attach(
    location: Location,
    options: AttachOptions,
    netns: str,
    interface: str,
    key_owner: KeyOwner | None,
    netns_resolv_conf: bool,
    as_env: bool,
    as_json: bool,
) -> None:
    """Put a network namespace that is there already on the overlay.

    It stays until 'cellnet detach', or until PATH is no longer the same namespace.
    """
    body = {**options.body(), **key_owner_field(key_owner), "netns": as_the_agent_finds_it(netns), "interface": interface}
    body["netns_resolv_conf"] = netns_resolv_conf
    made = attach_request(location.client(), options.name, body).fields
    environment = made.mapping("environment")
    if as_json:
        print_json(made)
    elif as_env:
        click.echo("\n".join(f"{key}={value}" for key, value in environment.items()))
    else:
        click.echo(f"{made.text('name')} has {made.text('address')}")
        click.echo("\n".join(f"  {key}={value}" for key, value in environment.items()))
        for each in published(made):
            click.echo(f"  published {each}")
        dns = made.at("dns")
        nameservers, search = joined(dns.texts("nameservers")), " ".join(dns.texts("search"))
        click.echo(f"  DNS {nameservers}, search {search}, as in {dns.text('file')}")


@click.command()
@click.argument("name", shell_complete=attachment_names)
@json_option
@click.pass_obj
def detach(location: Location, name: str, as_json: bool) -> None:
    """Take an attachment off the overlay. One that is not there is no error."""
    client = location.client()
    done = client.delete(attachment_address(name_of(client, name)))
    if as_json:
        print_json(done)
    elif not done.flag("detached"):
        click.echo(f"there was no '{name}'")


@click.command()
@click.option("--all", "is_everywhere", is_flag=True, help="Those of all cells, by cell.")
@json_option
@click.pass_obj
def ps(location: Location, is_everywhere: bool, as_json: bool) -> None:
    """List the attachments of this cell."""
    if is_everywhere:
        _print_all(location.client().get("/v1/apps"), as_json=as_json)
        return
    found = location.client().get("/v1/attachments")
    if as_json:
        print_json(found)
    else:
        click.echo(_listed(list(found.each())))


HEADS = ("NAME", "APP", "INSTANCE", "ADDRESS", "PORTS", "ROUTES", "TLS")
HEADS_OF_ALL = ("CELL", "NAME", "APP", "INSTANCE", "ADDRESS", "PORTS", "ROUTES", "READY")


def _print_all(apps: Fields, *, as_json: bool) -> None:
    """Of other cells only is known what they say of themselves: of TLS they say nothing."""
    pairs = [(app.text("app"), each) for app in apps.each() for each in app.at("instances").each()]
    pairs.sort(key=lambda pair: (natural(pair[1].text("cell")), natural(pair[1].text("name"))))
    if as_json:
        print_json([{"app": app, **each.fields} for app, each in pairs])
        return
    plain = [(each.text("cell"), each.text("name"), app, each.text("instance"), each.text("address")) for app, each in pairs]
    click.echo(table(HEADS_OF_ALL, [(*row, *served(each)) for row, (_, each) in zip(plain, pairs, strict=True)]))


def _listed(found: Sequence[Fields]) -> str:
    """With a column for published ports and one for limits, where there are any."""
    heads, rows = list(HEADS), [list(_row(each)) for each in found]
    more = {
        "PUBLISHED": [joined(published(each)) for each in found],
        "LIMITS": [_limits(each.at("limits")) for each in found],
    }
    for head, cells in more.items():
        if any(cells):
            heads.append(head)
            for row, cell in zip(rows, cells, strict=True):
                row.append(cell)
    return table(heads, rows)


def _limits(found: Fields) -> str:
    words = {"rate": "{}", "connections": "{} open", "new": "{}/s new"}
    return joined([word.format(found.text(name)) for name, word in words.items() if found.text(name)])


def _row(each: Fields) -> tuple[str, ...]:
    ports, routes = joined(each.texts("ports")), joined(each.texts("routes"))
    plain = (each.text("name"), each.text("app"), each.text("instance"), each.text("address"))
    return (*plain, ports, routes, each.at("tls").text("state"))


def published(attachment: Fields) -> tuple[str, ...]:
    """Each port of the host with where it leads, and whether a call is refused there for want of anything that listens."""
    return tuple(map(_published, attachment.at("publish").each()))


def _published(each: Fields) -> str:
    made = Publication(
        first=int(each.text("port")),
        last=int(each.text("last")),
        to=None if each.flag("tls") else int(each.text("to")),
        protocol=each.text("protocol"),
        address=published_address(each.text("address")),
    )
    return str(made) if each.flag("served") else f"{made} (nothing listens)"


def as_the_agent_finds_it(path: str) -> str:
    """An absolute path without the links of our own (`/proc/self`, relative links of folders); the last part stays as it is.

    The last part may be one of /proc's links to a namespace, which name nothing that can be opened.
    """
    given = Path(path)
    return os.path.join(os.path.realpath(given.parent), given.name)
