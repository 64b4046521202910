"""Namespaces that are held for whatever can only join one: made here, each pinned below the folder of the agent's socket."""

from pathlib import Path

from agent.client.location import Location
from agent.errors import Conflict
from agent.model.attachment import check_name
from host import namespace
from host.durable import make_folder
from host.errors import refused_as


def path_of(location: Location, name: str) -> Path:
    """Where the one of that name is, or would be. Raises InvalidInput for what is no name."""
    return location.socket().parent / "held" / check_name(name)


def is_held(path: Path) -> bool:
    """Whether it is there."""
    return namespace.is_pin(path)


def make(path: Path) -> None:
    """A new one. Raises Conflict, HostRefused."""
    if is_held(path):
        raise Conflict(f"'{path.name}' is held already, at {path}", hint=f"cellnet release {path.name}, then hold it again")
    with refused_as(f"cannot make a network namespace at {path}"):
        make_folder(path.parent, mode=0o755)
        namespace.create(path)


def give_up(path: Path) -> None:
    """Absent is fine. It lives on for as long as processes are in it."""
    with refused_as(f"cannot remove {path}", hint=f"umount {path}; rm {path}"):
        namespace.unpin(path)
