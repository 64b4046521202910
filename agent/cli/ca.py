"""`ca`: the cell's authorities."""

from datetime import UTC, datetime

import click

from agent.cli.fields import Fields
from agent.cli.output import json_option, moment, print_json
from agent.cli.place import Place, need_root


@click.group()
def ca() -> None:
    """The authorities that vouch for this cell's apps."""


@ca.command()
@json_option
@click.pass_obj
def init(place: Place, as_json: bool) -> None:
    """Make a root. The agent of a single cell does so by itself at its first start."""
    need_root("cellnet ca init")
    config = place.load()
    from agent.errors import HostRefused
    from ca.disk import init_root
    from ca.errors import CaRefused

    try:
        init_root(config.paths.ca, trust_domain=config.trust_domain, now=datetime.now(UTC))
    except CaRefused as error:
        raise HostRefused(error.what, hint=error.hint) from error
    if as_json:
        print_json({"directory": str(config.paths.ca), "trust_domain": config.trust_domain})
    else:
        click.echo(f"made the root of {config.trust_domain} in {config.paths.ca}")


@ca.command()
@click.option("--pem", is_flag=True, help="Print the trust bundle alone.")
@json_option
@click.pass_obj
def show(place: Place, pem: bool, as_json: bool) -> None:
    """Show the certificates of this cell's authorities."""
    found = place.client().get("/v1/ca")
    if as_json:
        print_json(found)
    elif pem:
        click.echo(found.text("bundle"), nl=False)
    else:
        for role in ("root", "cell"):
            _tell(role, found.at(role))


def _tell(role: str, certificate: Fields) -> None:
    if certificate.missing:
        click.echo(f"{role}  none")
        return
    click.echo(f"{role}  {certificate.text('subject')}")
    click.echo(f"  valid   {moment(certificate.text('not_before'))} to {moment(certificate.text('not_after'))}")
    click.echo(f"  serial  {certificate.text('serial')}")
    click.echo(f"  sha256  {certificate.text('fingerprint')}")
