"""Whether a backup may take the place of what is on this host: it is this cell's, and nothing here is in use."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from agent.attach.owners import Owners
from agent.backup.contents import Backup, BackupPart
from agent.config.config import Config
from agent.daemon import lock
from agent.errors import Conflict, HostRefused, InvalidInput
from agent.store.database import Database
from agent.store.ledger import Ledger
from agent.store.portable import cell_id_of, portable, with_later_leaves
from agent.wording import listed

STOP = "stop cellnet first: `systemctl stop cellnet.target 'cellnet-*'`, or `cellnet up`; containers and their traffic stay"
ANOTHER = "--another-cell restores it all the same; never let two hosts be the same cell"


@contextlib.contextmanager
def without_agent(*sockets: Path) -> Iterator[None]:
    """Inside, no agent runs and none starts. Raises Conflict where one runs, here or in another network namespace."""
    with contextlib.ExitStack() as held:
        try:
            for part in (lock.UP, lock.AGENT):
                held.enter_context(lock.take(part, on_foreign=lambda _: None))
        except Conflict as error:
            raise Conflict(error.what, hint=STOP) from error
        for path in sockets:
            if _answers(path):
                raise Conflict(f"an agent answers on {path}", hint=STOP)
        yield


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except OSError as error:
            return isinstance(error, TimeoutError | BlockingIOError)  # it listens, and is behind
    return True


def admitted(backup: Backup, config: Config, *, another_cell: bool) -> Backup:
    """The backup, as it may be put in place. Raises Conflict, HostRefused and InvalidInput where it may not."""
    found = backup.one(BackupPart.DATABASE)
    where = Path("the backup's database")
    if found is None or cell_id_of(found, where=where) != backup.cell_id:
        raise InvalidInput("the backup has no database of its cell", hint="take another copy of it")
    if config.cell != backup.cell and not another_cell:
        name = f"`cell: {backup.cell}` in agent.yaml, or this host's name, would make it the same; {ANOTHER}"
        raise Conflict(f"the backup is of cell {backup.cell}, and with it this host would be cell {config.cell}", hint=name)
    present = _present(config.paths.database)
    if present is None:
        return backup
    if cell_id_of(present, where=config.paths.database) != backup.cell_id:
        if not another_cell:
            raise Conflict(f"the backup is of cell {backup.cell}, and {config.paths.database} is another cell's", hint=ANOTHER)
        return backup
    later = with_later_leaves(found, present, where=where)
    files = tuple(replace(each, content=later) if each.part is BackupPart.DATABASE else each for each in backup.files)
    return replace(backup, files=files)


def _present(path: Path) -> bytes | None:
    """The cell's present file, where it can be read. Raises Conflict while containers of this boot are attached by it."""
    if not path.exists():
        return None
    try:
        database = Database(path)
        with contextlib.closing(database):
            held = Ledger(database).all()
        present = portable(path, now=datetime.now(UTC).timestamp())
    except HostRefused:
        return None  # damaged: that is what backups are for
    owners = Owners()
    alive = [each.name for each in held if owners.live(each)]
    if alive:
        what = f"{listed(alive)} would lose the network: the backup knows of no container"
        raise Conflict(what, hint="end them, or detach them while the agent runs; then stop it and restore")
    return present
