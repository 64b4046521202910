"""`backup` and `restore`: this cell's state in one file. Both are root's, read and write the disk, and need no agent."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.errors import print_warning
from agent.cli.output import counted, json_option, print_json
from agent.cli.passphrase import known_passphrase, new_passphrase, passphrase_file_option, refusals_reported
from agent.client.location import Location, need_root
from agent.errors import Conflict, HostRefused, InvalidInput

if TYPE_CHECKING:
    from agent.backup.contents import Backup

BEGINNING = 64  # bytes that show what a file is
LARGEST = 1 << 30  # bytes
FILE = click.Path(path_type=Path, dir_okay=False)


def _passphrase_option(command: click.decorators.FC) -> click.decorators.FC:
    return passphrase_file_option(command, of="the backup")


@click.command()
@click.argument("file", type=FILE)
@click.option("--encrypt", is_flag=True, help="Encrypt it by a passphrase, which is asked for.")
@_passphrase_option
@json_option
@click.pass_obj
def backup(location: Location, file: Path, encrypt: bool, passphrase_file: Path | None, as_json: bool) -> None:
    """Write this cell's state to FILE: database, certificates and keys, policies, configuration.

    An agent may run meanwhile. FILE is for root alone; a backup that has the name is replaced once the new one is whole.
    """
    need_root("cellnet backup")
    from agent.backup.archive import packed
    from agent.backup.capture import captured
    from agent.backup.replacement import finish
    from agent.backup.seal import sealed

    finish(location)
    _refuse_other_file(file)
    with refusals_reported():
        passphrase = new_passphrase(passphrase_file, ask=encrypt, of="the backup")
    taken = captured(location.load(), now=datetime.now(UTC))
    _write(file, sealed(packed(taken.backup), passphrase=passphrase))
    for each in taken.left_out:
        print_warning(f"not in the backup: {each}")
    _show(taken.backup, as_json, text=f"backed up cell {taken.backup.cell} to {file}", more={"file": str(file)})


def _refuse_other_file(path: Path) -> None:
    """Raises Conflict where something else than a backup would be lost, and InvalidInput without a folder."""
    from agent.backup.seal import is_backup

    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder {path.absolute().parent}", hint="make it, or name another")
    try:
        with path.open("rb") as there:
            beginning = there.read(BEGINNING)
    except FileNotFoundError:
        return
    if not path.is_file() or not is_backup(beginning):
        raise Conflict(f"{path} is there, and is no backup", hint="choose another name, or move it away")


def _write(path: Path, content: bytes) -> None:
    from host.durable import SECRET, Write, replace
    from host.errors import refused_as

    with refused_as(f"cannot write {path}", hint="see df, mount and the permissions; nothing was changed"):
        replace(Write(path.absolute(), content, SECRET))


@click.command()
@click.argument("file", type=FILE)
@click.option("--another-cell", is_flag=True, help="Restore another cell's backup: this host becomes that cell.")
@_passphrase_option
@json_option
@click.pass_obj
def restore(location: Location, file: Path, another_cell: bool, passphrase_file: Path | None, as_json: bool) -> None:
    """Put what 'cellnet backup' wrote to FILE in place of this cell's state, all or nothing. No agent may run.

    Policy files that the backup does not have are removed. Containers are not restored: their engines start them anew.
    """
    need_root("cellnet restore")
    from agent.backup.admission import admitted, without_agent
    from agent.backup.replacement import config_of, decide, finish, removed_policies

    found = _read(file, passphrase_file)
    config = config_of(found, location)
    with without_agent(location.default_socket, config.paths.control_socket):
        finish(location)
        put = admitted(found, config, another_cell=another_cell)
        gone = [str(each) for each in removed_policies(put, config)]
        decide(put, location.config_file)
        finish(location)
    for each in gone:
        print_warning(f"removed {each}, which the backup does not have")
    text = f"restored cell {put.cell} as of {put.taken:%Y-%m-%d %H:%M:%S}"
    _show(put, as_json, text=text, more={"file": str(file), "removed": gone})


def _read(file: Path, passphrase_file: Path | None) -> "Backup":
    from agent.backup.archive import unpacked
    from agent.backup.seal import needs_passphrase, opened

    if file.stat().st_size > LARGEST:
        raise InvalidInput(
            f"{file} is no backup of cellnet: it is too large", hint="name a file that 'cellnet backup' has made"
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise HostRefused(f"cannot read {file}: {error.strerror}", hint="check the path and the disk") from error
    with refusals_reported():
        needed = needs_passphrase(content, where=str(file))
        passphrase = known_passphrase(passphrase_file, needed=needed, of=file)
    return unpacked(opened(content, where=str(file), passphrase=passphrase), where=str(file))


def _show(found: "Backup", as_json: bool, *, text: str, more: Mapping[str, object]) -> None:
    from agent.backup.capture import listed

    counts = listed(found.files)
    if as_json:
        taken = f"{found.taken:%Y-%m-%dT%H:%M:%SZ}"
        print_json({"cell": found.cell, "id": found.cell_id, "taken": taken, "version": found.version, "files": counts, **more})
    else:
        policies, keys = counted(str(counts["policies"]), "policy file"), counted(str(counts["ca"]), "file")
        click.echo(f"{text}: database, {policies}, {keys} of the CA")
