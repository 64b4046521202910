"""`metrics`: what a monitoring system can ask for, on standard output or in a file that node_exporter reads."""

from pathlib import Path

import click

from agent.client.location import Location
from agent.errors import Unavailable

DOWN = "# HELP cellnet_up 1 while the agent answers\n# TYPE cellnet_up gauge\ncellnet_up 0.0\n"


@click.command()
@click.option(
    "--textfile", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="Write FILE, whole, for node_exporter's textfile collector; its name ends in .prom.",
)  # fmt: skip
@click.pass_obj
def metrics(location: Location, textfile: Path | None) -> None:
    """Print the agent's metrics in Prometheus' exposition format.

    Where no agent answers, FILE says `cellnet_up 0` and nothing else, and the exit code is 1.
    """
    client = location.client()
    if textfile is None:
        click.echo(client.text("/v1/metrics"), nl=False)
        return
    try:
        _write(textfile, client.text("/v1/metrics"))
    except Unavailable:
        _write(textfile, DOWN)
        raise


def _write(path: Path, text: str) -> None:
    from host.durable import PUBLIC, Write, replace
    from host.errors import refused_as

    with refused_as(f"cannot write {path}", hint="see --collector.textfile.directory of node_exporter"):
        replace(Write(path.absolute(), text.encode(), PUBLIC), lasting=False)
