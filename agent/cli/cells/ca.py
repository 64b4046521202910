"""`ca`: the authorities of the cells. `init` and `issue-cell` are for the root's owner and need no agent."""

from datetime import UTC, datetime
from pathlib import Path

import click

from agent.cli.cells.rotation import certificate_in, rotate
from agent.cli.credentials import credentials_field, credentials_option
from agent.cli.output import json_option, moment, print_json
from agent.cli.passphrase import new_passphrase, passphrase_of, passphrase_option, refusals_reported
from agent.client.answer import Fields
from agent.client.location import Location, need_root

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def ca() -> None:
    """The authorities that vouch for the cells' apps."""


@ca.command()
@click.option("--ca", "folder", type=FOLDER, metavar="DIR", help="Where to make it. [default: this cell's own]")
@click.option("--trust-domain", metavar="NAME", help="The apps' domain that it vouches for. [default: that of agent.yaml]")
@click.option("--encrypt", is_flag=True, help="Encrypt its key by a passphrase, which is asked for.")
@passphrase_option
@json_option
@click.pass_obj
def init(
    location: Location,
    folder: Path | None,
    trust_domain: str | None,
    encrypt: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Make a root. The agent of a single cell does so by itself at its first start.

    A root's key that is encrypted signs for commands that are given the passphrase, and never for an agent.
    """
    if folder is None:
        need_root("cellnet ca init")
    config = location.load()
    from ca.disk import init_root

    there, domain = folder or config.paths.ca, trust_domain or config.trust_domain
    with refusals_reported():
        passphrase = new_passphrase(passphrase_file, ask=encrypt)
        init_root(there, trust_domain=domain, now=datetime.now(UTC), passphrase=passphrase)
    if as_json:
        print_json({"directory": str(there), "trust_domain": domain})
    else:
        click.echo(f"made the root of {domain} in {there}")


@ca.command("issue-cell")
@click.option("--cell", required=True, metavar="NAME", help="The cell's name, as its agent.yaml has it.")
@click.option("--out", type=FOLDER, metavar="DIR", help="The folder to make. [default: ./NAME]")
@click.option("--ca", "folder", type=FOLDER, metavar="DIR", help="Where root.crt and root.key are. [default: this cell's own]")
@click.option("--lifetime", default="90d", show_default=True, metavar="TIME", help="E.g. 90d; not beyond the root's end.")
@passphrase_option
@json_option
@click.pass_obj
def issue_cell(
    location: Location,
    cell: str,
    out: Path | None,
    folder: Path | None,
    lifetime: str,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Sign a cell's certificate with the root that is here.

    DIR is then what that cell must have as /var/lib/cellnet/ca: root.crt, cell.crt and cell.key, and not the root's key. A
    running agent takes up a new cell.crt and cell.key by itself.
    """
    from agent.config.texts import duration
    from ca.issuing import issue

    there, made = folder or location.load().paths.ca, out or Path(cell)
    with refusals_reported():
        lives, passphrase = duration(lifetime), passphrase_of(there, passphrase_file)
        issued = issue(there, cell=cell, out=made.absolute(), now=datetime.now(UTC), lifetime=lives, passphrase=passphrase)
    ends = issued.valid.not_after
    if as_json:
        print_json({"cell": cell, "directory": str(made), "not_after": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})
    else:
        click.echo(f"made {made}: {cell} may vouch for its apps until {ends:%Y-%m-%d %H:%M:%S}")


@ca.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--add", is_flag=True, help="Keep the roots that are there.")
@credentials_option
@json_option
@click.pass_obj
def publish(location: Location, file: Path | None, add: bool, credentials: Path | None, as_json: bool) -> None:
    """Have all cells of the store trust the roots of FILE (PEM), and no others but their own. [default: this cell's root]"""
    roots = None if file is None else certificate_in(file)
    given = location.client().post("/v1/ca/trust", {"roots": roots, "add": add, **credentials_field(credentials)})
    if as_json:
        print_json(given)
        return
    click.echo("the cells trust, each besides its own root:")
    for each in given.at("roots").each():
        click.echo(f"  {each.text('subject')}, until {each.text('not_after')[:10]}, sha256 {each.text('fingerprint')[:16]}…")


@ca.command()
@click.option("--pem", is_flag=True, help="Print the trust bundle alone.")
@json_option
@click.pass_obj
def show(location: Location, pem: bool, as_json: bool) -> None:
    """Show the certificates of this cell's authorities."""
    found = location.client().get("/v1/ca")
    if as_json:
        print_json(found)
    elif pem:
        click.echo(found.text("bundle"), nl=False)
    else:
        for role in ("root", "cell"):
            _show_certificate(role, found.at(role))
        by = "this agent" if found.flag("root_key_here") else "the root's owner, with 'cellnet ca issue-cell'"
        click.echo(f"the cell's certificate is renewed by {by}")


def _show_certificate(role: str, certificate: Fields) -> None:
    if certificate.missing:
        click.echo(f"{role}  none")
        return
    click.echo(f"{role}  {certificate.text('subject')}")
    click.echo(f"  valid   {moment(certificate.text('not_before'))} to {moment(certificate.text('not_after'))}")
    click.echo(f"  serial  {certificate.text('serial')}")
    click.echo(f"  sha256  {certificate.text('fingerprint')}")


ca.add_command(rotate)
