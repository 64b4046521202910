"""`cellnet teardown`: the host as it was found. Done again after whatever stopped it, it goes on to the end.

Links go first, so that nothing passes without rules; what says what the host was goes last, with all that is below
/run/cellnet. What lasts over reboots stays: configuration, policies, database, CA.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.attach import netns_resolv_conf
from agent.config.accounts import envoy_account
from agent.config.config import Config
from agent.daemon import host_record, lock
from agent.daemon.running_parts import end_all
from agent.errors import HostRefused
from agent.model.attachment import Attachment
from agent.store.database import Database
from agent.store.ledger import Ledger
from dataplane.detachment import clear_namespace
from dataplane.removal import remove_all
from dataplane.tables import GATEWAY
from host import mounts, namespace, syscalls
from host.errors import refused_as
from host.lasting_mounts import in_first_mounts

HELD = "held"  # below the folder of the agent's socket: namespaces of `cellnet hold`


@dataclass(frozen=True, slots=True)
class TornDown:
    """What was there and is not any more: `tables` by kind of entry, `namespaces` that were pinned, what is as `before`."""

    tables: str
    namespaces: tuple[str, ...]
    before: tuple[str, ...]


def tear_down(config: Config, *, force: bool) -> TornDown:
    """End what runs, and take all of it off the host. Raises Conflict, HostRefused: then some of it is left; do it again."""
    end_all(config, force=force)
    with ExitStack() as locks:
        for part in (lock.UP, lock.AGENT):  # so that none starts meanwhile
            locks.callback(lock.take(part, on_foreign=lambda _uid: None).close)
        record, attachments = host_record.kept(config.paths.host_before), _attachments(config)
        removed = remove_all().summary()
        names = tuple(_release(config, attachments))
        _forget_resolv_confs(attachments)
        before = () if record is None else record.restore()
        _remove_folder(config.paths.run)
    return TornDown(removed, names, before)


def _attachments(config: Config) -> Mapping[str, Attachment]:
    """By name. Those of a database that is not there or cannot be read are not known: their pins go all the same."""
    if not config.paths.database.exists():
        return {}
    with suppress(HostRefused):
        database = Database(config.paths.database)
        try:
            return {each.name: each for each in Ledger(database).all()}
        finally:
            database.close()
    return {}


def _release(config: Config, attachments: Mapping[str, Attachment]) -> Iterator[str]:
    """What is ours in containers' namespaces goes, then their pins. Processes in them live on, without a network."""
    folder, held = config.paths.netns, config.paths.control_socket.parent / HELD
    envoy = envoy_account(config).pw_uid
    for pin in sorted(folder.iterdir()) if folder.is_dir() else ():
        known = attachments.get(pin.name)
        clear_namespace(pin, address=GATEWAY if known is None else known.address, envoy=envoy)
        _unpin(pin)
        yield pin.name
    for pin in sorted(held.iterdir()) if held.is_dir() else ():
        _unpin(pin)


def _unpin(pin: Path) -> None:
    with refused_as(f"cannot remove {pin}", hint=f"umount {pin}; rm {pin}"):
        namespace.unpin(pin)


def _forget_resolv_confs(attachments: Mapping[str, Attachment]) -> None:
    for each in attachments.values():
        if each.netns_name:
            netns_resolv_conf.remove(netns_resolv_conf.FOLDER / each.netns_name / "resolv.conf", owner=each.name)


def _remove_folder(folder: Path) -> None:
    """With what is mounted below it; nothing that is mounted there is emptied."""

    def unmount() -> None:
        for point in mounts.below(folder):
            syscalls.umount(str(point))

    with refused_as(f"cannot remove {folder}", hint=f"see what is mounted there: findmnt -R {folder}"):
        in_first_mounts(folder, unmount)
        unmount()
        if mounts.below(folder):
            raise HostRefused(f"something is mounted below {folder} again", hint="see findmnt, then: cellnet teardown")
        if folder.is_dir():
            shutil.rmtree(folder)
