"""What `run` and `attach` both ask for: app, name, instance, ports, routes, TLS target, services, limits, published ports."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from agent.cli.app_names import APP
from agent.cli.errors import print_warnings
from agent.client.connection import Client, Reply, RequestBody, attachment_address
from agent.model.app_port import AppPort
from agent.model.limits import as_written, check_connections, parse_new, parse_rate
from agent.model.names import lowered
from agent.model.publication import Publication
from dataplane.state import Limits


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """The options of attach_options."""

    app: str
    name: str | None
    instance: int | None
    ports: tuple[AppPort, ...]
    routes: tuple[str, ...]
    tls_target: int | None
    tls_http: str | None
    services: tuple[str, ...]
    limits: Limits
    publish: tuple[Publication, ...]

    def body(self) -> RequestBody:
        """The fields of a request; the name is in its address."""
        return {
            "app": self.app,
            "instance": self.instance,
            "ports": [each.json for each in self.ports],
            "routes": self.routes,
            "tls_target": self.tls_target,
            "tls_http": self.tls_http,
            "services": tuple(map(lowered, self.services)),
            "limits": as_written(self.limits),
            "publish": [each.json for each in self.publish],
        }


def _ports(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> tuple[AppPort, ...]:
    return tuple(map(AppPort.parse, texts))


def _rate(_context: click.Context, _option: click.Parameter, text: str | None) -> int:
    return 0 if text is None else parse_rate(text)


def _connections(_context: click.Context, _option: click.Parameter, number: int | None) -> int:
    return 0 if number is None else check_connections(number)


def _new(_context: click.Context, _option: click.Parameter, text: str | None) -> int:
    return 0 if text is None else parse_new(text)


def _publications(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> tuple[Publication, ...]:
    return tuple(map(Publication.parse, texts))


NAME_OPTION = click.option("--name", metavar="NAME", help="Name of the attachment. [default: made from the app's]")
OPTIONS = (
    click.option("--app", type=APP, required=True, metavar="O/S/A", help="The app: org/space/app, or its last part."),
    click.option("--instance", type=int, metavar="I", help="Number of this copy of the app. [default: the lowest free]"),
    click.option(
        "--port",
        "ports",
        callback=_ports,
        multiple=True,
        metavar="P[/udp]",
        help="A port that the app listens on, e.g. 8080 or 53/udp (repeatable).",
    ),
    click.option("--route", "routes", multiple=True, metavar="HOST", help="A name below a route domain (repeatable)."),
    click.option(
        "--tls-target", type=int, metavar="P", help="Port behind 61443. [default: the first --port for TCP, else 8080]"
    ),
    click.option(
        "--tls-http",
        is_flag=False,
        flag_value="http/1.1",
        type=click.Choice(["http/1.1", "h2"]),
        help="Speak HTTP to the TLS target, 1.1 unless told otherwise: X-Forwarded-Client-Cert names the caller.",
    ),
    click.option(
        "--service",
        "services",
        multiple=True,
        metavar="APP",
        help="An app that the environment names though no policy says yet that it may be reached (repeatable).",
    ),
    click.option(
        "--limit-rate", callback=_rate, metavar="RATE", help="As fast as it may receive, and send: e.g. 100mbit. [default: any]"
    ),
    click.option(
        "--limit-connections",
        type=int,
        callback=_connections,
        metavar="N",
        help="How many connections to outside of the overlay it may have open. [default: any]",
    ),
    click.option(
        "--limit-new",
        callback=_new,
        metavar="N/s",
        help="How many connections to outside of the overlay it may open in a second: e.g. 50/s. [default: any]",
    ),
    click.option(
        "--publish",
        callback=_publications,
        multiple=True,
        metavar="[ADDRESS:]PORT:TO[/udp]",
        help="A port of this host that leads to the app's port TO, for whom a policy names, e.g. 8080:80, 53:53/udp, "
        "8000-8010:9000-9010, or 443:tls for the port that terminates TLS (repeatable).",
    ),
)


def attach_options(command: Callable[..., object]) -> Callable[..., object]:
    """Adds the options and hands them over as one value, `options`."""
    return _with_options(command, (OPTIONS[0], NAME_OPTION, *OPTIONS[1:]))


def named_options(command: Callable[..., object]) -> Callable[..., object]:
    """As attach_options, with the name as the command's argument."""
    return _with_options(command, (click.argument("name"), *OPTIONS))


def _with_options(
    command: Callable[..., object], added: Sequence[Callable[[Callable[..., object]], Callable[..., object]]]
) -> Callable[..., object]:

    @functools.wraps(command)
    def wrapped(
        *arguments: object, app: str, name: str | None, instance: int | None, ports: tuple[AppPort, ...],
        routes: tuple[str, ...], tls_target: int | None, tls_http: str | None, services: tuple[str, ...],
        limit_rate: int, limit_connections: int, limit_new: int, publish: tuple[Publication, ...], **others: object,
    ) -> object:  # fmt: skip
        limits = Limits(limit_rate, limit_connections, limit_new)
        options = AttachOptions(app, name, instance, ports, routes, tls_target, tls_http, services, limits, publish)
        return command(*arguments, options=options, **others)

    found: Callable[..., object] = wrapped
    for option in reversed(added):
        found = option(found)
    return found


def attach_request(client: Client, name: str | None, body: RequestBody) -> Reply:
    """Attach under `name`, or under one that the agent makes up. What the agent warns of is printed."""
    method, address = ("POST", "/v1/attachments") if name is None else ("PUT", attachment_address(name))
    made = client.ask(method, address, body)
    print_warnings(made.fields.texts("warnings"))
    return made
