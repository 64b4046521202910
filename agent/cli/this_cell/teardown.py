"""`teardown`: the host as it was found."""

from contextlib import suppress

import click

from agent.cli.output import counted, json_option, print_json
from agent.client.location import Location, need_root
from agent.errors import Conflict, Unavailable


@click.command()
@click.option("--force", is_flag=True, help="Also where containers are attached; kill what does not end by itself.")
@json_option
@click.pass_obj
def teardown(location: Location, force: bool, as_json: bool) -> None:
    """Take cellnet off this host: rules, links, routes, sets, mounts, namespaces that are held, and /run/cellnet.

    It ends what runs of cellnet first, and refuses while its agent has containers ('cellnet drain' takes them out in order).
    What cellnet has changed of the kernel's settings is as it was before. What other programs have made is not touched.
    Configuration, policies, database and certificates stay. Whatever has stopped it, run it again.
    """
    need_root("cellnet teardown")
    config = location.load()
    if not force:
        _refuse_containers(location)
    from agent.daemon.teardown import tear_down

    done = tear_down(config, force=force)
    if as_json:
        print_json({"removed": done.tables, "namespaces": list(done.namespaces), "restored": list(done.before)})
        return
    click.echo(f"removed: {done.tables or 'nothing was left'}")
    if done.namespaces:
        click.echo(f"released: {counted(str(len(done.namespaces)), 'namespace')}")
    for each in done.before:
        click.echo(f"as before: {each}")
    click.echo(f"{config.paths.state} and {location.config_file.parent} stay")


def _refuse_containers(location: Location) -> None:
    with suppress(Unavailable):
        names = [each.text("name") for each in location.client().get("/v1/attachments").each()]
        if names:
            what = f"{counted(str(len(names)), 'container')} would lose the network: {', '.join(names[:5])}"
            raise Conflict(what + (", …" if len(names) > 5 else ""), hint="cellnet drain, or: cellnet teardown --force")
